//! Requests along redirects, and with the authorization that the upstream asks for.

use std::sync::atomic::Ordering;

use quinistry_client::challenge::{self, Challenge};
use quinistry_client::redirect::Hop;
use quinistry_fetch::hops::HOPS_HEADER;
use quinistry_fetch::{SourceError, Validator};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE,
    WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};

use crate::address::AddressClass;
use crate::answer::invalid;
use crate::error::AskError;
use crate::remote::Inner;
use crate::transport::{SendError, host_of};

/// Longest chain of redirects that is followed.
const MAX_REDIRECTS: usize = 5;

/// Length of the challenges of one answer that are read.
const MAX_CHALLENGE_BYTES: usize = 16 * 1024;

/// Question to an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Scope of the token.
    pub(crate) scope: String,
    pub(crate) accept: Option<HeaderValue>,
    pub(crate) if_none_match: Option<HeaderValue>,
    pub(crate) part: Option<Part>,
    /// Number of caches that the request has passed, this one included.
    pub(crate) hops: u32,
}

/// Part of a blob that is asked for, at one target alone.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) from: u64,
    pub(crate) validator: Validator,
}

/// Answer to a question.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response,
    /// True if the upstream itself has answered, and no target of a redirect.
    pub(crate) is_own: bool,
    /// True if the target was asked for a part.
    pub(crate) has_range: bool,
    /// Class of the addresses that the answers came from, the farthest of all.
    pub(crate) seen: AddressClass,
}

impl Inner {
    /// Asks a question; with a token or credentials, if the upstream wants any. Returns the answer to the last request,
    /// whatever its status.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Reply, SourceError> {
        let known = self.known_authorization(&question.scope).await?;
        let reply = self.follow(question, known.as_ref()).await?;
        // A challenge from the target of a redirect is not the upstream's: answering it would send the credentials to
        // any server that it names.
        if reply.response.status() != StatusCode::UNAUTHORIZED || !reply.is_own {
            return Ok(reply);
        }
        let challenges = challenges_of(reply.response.headers())?;
        let seen = reply.seen;
        drop(reply);
        let authorization = self.authorize(&question.scope, known.as_ref(), &challenges, seen).await?;
        let reply = self.follow(question, Some(&authorization)).await?;
        // A token may lack rights although the credentials are right.
        let is_basic = self.wants_basic.load(Ordering::Relaxed);
        if reply.response.status() == StatusCode::UNAUTHORIZED && reply.is_own && is_basic {
            self.credentials.forget().await;
        }
        Ok(reply)
    }

    async fn follow(
        &self,
        question: &Question,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, SourceError> {
        let mut hop = Hop::first(&question.method, &question.url);
        let (mut seen, mut is_own) = (None, true);
        for _ in 0..=MAX_REDIRECTS {
            // An address that another host has chosen is not the upstream's, although it is there.
            is_own &= self.trust.is_origin_of(&hop.url);
            let mut headers = question.headers_for(&hop.url);
            let has_range = headers.contains_key(RANGE);
            if is_own {
                headers.insert(HOPS_HEADER, question.hops.into());
                if let Some(authorization) = authorization {
                    headers.insert(AUTHORIZATION, authorization.clone());
                }
            }
            let (response, class) = self.send(hop.method.clone(), &hop.url, headers, None, seen).await?;
            let farthest = seen.map_or(class, |seen: AddressClass| seen.max(class));
            seen = Some(farthest);
            match hop.next(response.status(), response.headers()).map_err(invalid)? {
                None => return Ok(Reply { response, is_own, has_range, seen: farthest }),
                Some(next) => hop = next,
            }
        }
        Err(invalid(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Sends one request: that of the configuration (`seen` is `None`), or one that an answer from an address of class
    /// `seen` has led to.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<reqwest::Body>,
        seen: Option<AddressClass>,
    ) -> Result<(Response, AddressClass), SourceError> {
        let route = self
            .trust
            .route(url, seen)
            .map_err(|reason| invalid(format!("the upstream leads to {reason}")))?;
        let result = self.transports.send(route, method, url, headers, body).await;
        result.map_err(|error| match error {
            SendError::Silent => SourceError::Silent,
            SendError::Malformed => invalid("an answer that is not HTTP, or whose head is too long"),
            SendError::Failed(error) => SourceError::Unavailable(Box::new(error)),
            SendError::Forbidden if seen.is_some() => {
                tracing::warn!(upstream = %self.name, host = %host_of(url), "upstream leads to an address that may not be dialled");
                invalid(format!("the upstream leads to {}, whose address may not be dialled", host_of(url)))
            }
            SendError::Forbidden => {
                let host = host_of(url);
                let is_confined = route.addresses.farthest != AddressClass::Public;
                let error =
                    if is_confined { AskError::NotPrivate { host } } else { AskError::Address { host } };
                SourceError::Unavailable(Box::new(error))
            }
        })
    }
}

// === impl Question ===

impl Question {
    /// Returns the headers for a target, without authorization.
    fn headers_for(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // A part of an encoded body would be a part of other bytes.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.extend(self.accept.clone().map(|value| (ACCEPT, value)));
        headers.extend(self.if_none_match.clone().map(|value| (IF_NONE_MATCH, value)));
        if let Some(part) = self.part.as_ref().filter(|part| part.validator.target() == target_of(url))
            && let Ok(etag) = HeaderValue::from_str(part.validator.etag())
        {
            let range = HeaderValue::try_from(format!("bytes={}-", part.from)).expect("digits are ASCII");
            headers.extend([(RANGE, range), (IF_RANGE, etag)]);
        }
        headers
    }
}

/// Returns the name of the place that has answered: without the query, in which signed addresses have other secrets
/// each time.
pub(crate) fn target_of(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}

fn challenges_of(headers: &HeaderMap) -> Result<Vec<Challenge>, SourceError> {
    let fields = || headers.get_all(WWW_AUTHENTICATE).iter();
    if fields().map(HeaderValue::len).sum::<usize>() > MAX_CHALLENGE_BYTES {
        return Err(invalid("challenges that are too long"));
    }
    Ok(fields().filter_map(|field| field.to_str().ok()).flat_map(challenge::parse).collect())
}
