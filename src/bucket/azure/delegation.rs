//! Key by which an identity signs URLs, which the store gives for a week ("Get User Delegation Key").

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use object_store::azure::AzureCredential;
use serde::Deserialize;

use super::Azure;
use super::sign::{SigningKey, authorize, time};
use crate::transport::{Request, What};
use crate::xml::{element, parse};
use crate::{ObjectError, ObjectErrorKind};

/// Validity of a key. The store gives a week at most, the time before now included.
const VALIDITY: Duration = Duration::from_mins(7 * 24 * 60 - 10);

/// Age of a key from which on another one is asked for.
const RENEWAL_AGE: Duration = Duration::from_hours(24);

/// Pause after a refusal, until a key is asked for again.
const PAUSE: Duration = Duration::from_mins(10);

/// Time before now at which the validity of a key begins: the clocks of the store's machines differ.
const SKEW: Duration = Duration::from_mins(5);

/// Longest wait for a key.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Key that the store has given an identity.
#[derive(Debug)]
pub(super) struct DelegationKey {
    pub(super) key: SigningKey,
    answer: Answer,
    until: SystemTime,
}

/// Answer of the store.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    signed_oid: String,
    signed_tid: String,
    signed_start: String,
    signed_expiry: String,
    signed_service: String,
    signed_version: String,
    #[serde(default)]
    value: String,
}

/// Last key of an identity, and the time at which the store was asked for the next one.
#[derive(Debug, Default)]
pub(super) struct Delegation(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    key: Option<Arc<DelegationKey>>,
    /// Time of the store from which on a key is asked for.
    due: Option<SystemTime>,
}

// === impl DelegationKey ===

impl DelegationKey {
    /// Returns the names of the key in a URL, in the order of the signed text.
    pub(super) fn fields(&self) -> [(&'static str, &str); 6] {
        let Answer {
            signed_oid,
            signed_tid,
            signed_start,
            signed_expiry,
            signed_service,
            signed_version,
            ..
        } = &self.answer;
        [
            ("skoid", signed_oid),
            ("sktid", signed_tid),
            ("skt", signed_start),
            ("ske", signed_expiry),
            ("sks", signed_service),
            ("skv", signed_version),
        ]
    }
}

// === impl Delegation ===

impl Delegation {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key, if it is valid until a time.
    pub(super) fn key(&self, until: SystemTime) -> Option<Arc<DelegationKey>> {
        self.state().key.clone().filter(|key| key.until >= until)
    }

    /// Returns true to one caller, if it is time to ask for a key.
    fn is_due(&self, now: SystemTime) -> bool {
        let mut state = self.state();
        if state.due.is_some_and(|due| now < due) {
            return false;
        }
        state.due = Some(now + PAUSE);
        true
    }
}

impl Azure {
    /// Asks for a key by which URLs are signed, if the credentials are a token and it is time to: one request a day
    /// waits for it. Without a key, pulls go through the registry.
    pub(super) async fn renew_delegation(&self, credential: &AzureCredential) {
        let now = self.transport.clock().to_sign();
        if !matches!(credential, AzureCredential::BearerToken(_)) || !self.delegation.is_due(now) {
            return;
        }
        let asked = tokio::time::timeout(TIMEOUT, self.delegation_key(credential, now)).await;
        match asked {
            Ok(Ok(key)) => {
                let mut state = self.delegation.state();
                state.key = Some(Arc::new(key));
                state.due = Some(now + RENEWAL_AGE);
            }
            Ok(Err(error)) => {
                // Rights do not come back by themselves.
                if matches!(error.kind, ObjectErrorKind::Denied | ObjectErrorKind::Refused) {
                    self.delegation.state().due = Some(now + RENEWAL_AGE);
                }
                tracing::warn!(%error, "no key to sign URLs with, sending pulls through the registry");
            }
            Err(_) => {
                tracing::warn!(
                    "no key to sign URLs with within 5 seconds, sending pulls through the registry"
                );
            }
        }
    }

    async fn delegation_key(
        &self,
        credential: &AzureCredential,
        now: SystemTime,
    ) -> Result<DelegationKey, ObjectError> {
        let what = What("GET DELEGATION KEY", "");
        let until = now + VALIDITY;
        let mut url = self.account_url.clone();
        url.set_query(Some("restype=service&comp=userdelegationkey"));
        let times = element("Start", &time(now - SKEW)) + &element("Expiry", &time(until));
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo>{times}</KeyInfo>");
        let mut request = Request { method: Method::POST, url, headers: HeaderMap::new(), body: body.into() };
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        authorize(&mut request, &self.account, (credential, None), now);
        let answer = self.transport.send(request, what).await?;
        let answer: Answer = parse(&answer.bytes(what).await?, what)?;
        let key = SigningKey::of_base64(&answer.value).ok_or_else(|| {
            ObjectError::new(ObjectErrorKind::Unknown, format!("{what}: the answer has no valid key"))
        })?;
        Ok(DelegationKey { key, answer, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_asks_for_a_key_and_none_right_after_a_refusal() {
        let delegation = Delegation::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        assert!(delegation.is_due(now) && !delegation.is_due(now));
        assert!(!delegation.is_due(now + PAUSE / 2) && delegation.is_due(now + PAUSE));
        assert!(delegation.key(now).is_none());
    }

    #[test]
    fn an_answer_is_a_key_with_its_names() {
        let text = "<?xml version=\"1.0\"?><UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>\
            <SignedStart>1</SignedStart><SignedExpiry>2</SignedExpiry><SignedService>b</SignedService>\
            <SignedVersion>v</SignedVersion><Value>a2V5</Value></UserDelegationKey>";
        let answer: Answer = parse(text.as_bytes(), What("GET", "")).unwrap();
        let key = SigningKey::of_base64(&answer.value).unwrap();
        let key = DelegationKey { key, answer, until: SystemTime::UNIX_EPOCH };
        assert_eq!(key.fields().map(|(_, value)| value), ["o", "t", "1", "2", "b", "v"]);
    }
}
