//! The model of an upload session that `ranges` and `uploads` compare with the registry (distribution-spec,
//! section Pushing a blob in chunks).

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use quinistry::oci::ErrorCode;

use crate::{Answer, BodyTransfer, Registry, request};

/// An open session.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Path of the session.
    pub location: String,
    /// Bytes that the session has received.
    pub bytes: Vec<u8>,
}

/// Effect of a request on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredictedEffect {
    /// The whole body is appended.
    Appended,
    /// The request is refused. The session may keep the bytes before the body broke off or became too long.
    Refused {
        /// Greatest number of bytes kept.
        kept: usize,
    },
}

/// Predicts the effect of a body sent to a session of `offset` bytes.
#[must_use]
pub fn predict_effect(offset: usize, content_range: Option<&[u8]>, sent: &BodyTransfer) -> PredictedEffect {
    let received = sent.bytes().len();
    let cut = matches!(sent, BodyTransfer::Truncated(..));
    let Some(range) = content_range else {
        return if cut { PredictedEffect::Refused { kept: received } } else { PredictedEffect::Appended };
    };
    let Some((first, last)) = numbers(range) else { return PredictedEffect::Refused { kept: 0 } };
    let begins = first == offset as u128 && last >= first;
    let wanted = if begins { last - first + 1 } else { 0 };
    let announced = match sent {
        BodyTransfer::Sized(bytes) => Some(bytes.len() as u128),
        BodyTransfer::Chunked(_) => None,
        BodyTransfer::Truncated(announced, _) => Some(u128::from(*announced)),
    };
    if !begins || announced.is_some_and(|announced| announced != wanted) {
        return PredictedEffect::Refused { kept: 0 };
    }
    if received as u128 == wanted && !cut {
        return PredictedEffect::Appended;
    }
    PredictedEffect::Refused { kept: received.min(usize::try_from(wanted).unwrap_or(usize::MAX)) }
}

/// Parses `^[0-9]+-[0-9]+$`; a number that is too great for the type becomes one greater than all others.
fn numbers(range: &[u8]) -> Option<(u128, u128)> {
    let (first, last) = std::str::from_utf8(range).ok()?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u128::MAX / 2))
    };
    Some((number(first)?, number(last)?))
}

impl Upload {
    /// Reads the session that a 202 has created.
    #[must_use]
    pub fn opened(repository: &str, answer: &Answer) -> Self {
        assert_eq!(answer.status, 202, "{answer:?}");
        let location = answer.header(LOCATION.as_str()).expect("a session has a place").to_owned();
        let id =
            location.strip_prefix(&format!("/v2/{repository}/blobs/uploads/")).expect("in its repository");
        assert!(id.parse::<uuid::Uuid>().is_ok(), "{answer:?}");
        let upload = Self { location, bytes: Vec::new() };
        assert_eq!(answer.header(RANGE.as_str()), Some(&*upload.range()));
        upload
    }

    /// Returns the value of the session's `Range` header.
    #[must_use]
    pub fn range(&self) -> String {
        format!("0-{}", self.bytes.len().saturating_sub(1))
    }

    /// Checks that a response describes this session.
    #[track_caller]
    pub fn assert_describes(&self, answer: &Answer) {
        assert_eq!(answer.header(LOCATION.as_str()), Some(&*self.location), "{answer:?}");
        assert_eq!(answer.header(RANGE.as_str()), Some(&*self.range()), "{answer:?}");
    }

    /// Checks the session's state in the registry.
    pub async fn assert_state(&self, registry: &Registry) {
        let answer = registry.ask_for(Method::GET, &self.location).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        self.assert_describes(&answer);
    }

    /// Sends a chunk, and checks the response.
    pub async fn patch(&mut self, registry: &Registry, content_range: Option<&[u8]>, sent: &BodyTransfer) {
        let effect = predict_effect(self.bytes.len(), content_range, sent);
        let answer = self.send(registry, Method::PATCH, "", content_range, sent).await;
        match effect {
            PredictedEffect::Appended => {
                assert_eq!(answer.status, 202, "{answer:?}");
                self.bytes.extend(sent.bytes());
                self.assert_describes(&answer);
            }
            PredictedEffect::Refused { kept } => self.handle_refusal(registry, &answer, sent, kept).await,
        }
        self.assert_state(registry).await;
    }

    /// Sends a request to the session; the caller checks the response.
    pub async fn send(
        &self,
        registry: &Registry,
        method: Method,
        query: &str,
        content_range: Option<&[u8]>,
        sent: &BodyTransfer,
    ) -> Answer {
        let uri = format!("{}{query}", self.location).parse().unwrap();
        let range = content_range.map(|range| (CONTENT_RANGE.as_str(), range));
        registry.ask(request(method, uri, range.as_slice(), sent.clone())).await
    }

    /// Checks that a body was refused, and reads how many of at most `kept` bytes the session has kept.
    pub async fn handle_refusal(
        &mut self,
        registry: &Registry,
        answer: &Answer,
        sent: &BodyTransfer,
        kept: usize,
    ) {
        let refused = match answer.status.as_u16() {
            416 => answer.code() == Some(ErrorCode::BlobUploadInvalid),
            400 => matches!(answer.code(), Some(ErrorCode::BlobUploadInvalid | ErrorCode::SizeInvalid)),
            _ => false,
        };
        assert!(refused, "{answer:?}");
        if answer.status == 416 {
            self.assert_describes(answer);
        }
        let state = registry.ask_for(Method::GET, &self.location).await;
        assert_eq!(state.status, 204, "a refused chunk ends no session: {state:?}");
        let last = state.header(RANGE.as_str()).and_then(|range| range.strip_prefix("0-")).unwrap();
        let last: usize = last.parse().unwrap();
        let before = self.bytes.len();
        let body = sent.bytes();
        if last > 0 {
            let grown = (last + 1).checked_sub(before).expect("what was acknowledged stays");
            assert!(grown <= kept, "{grown} bytes more, and {kept} may be: {answer:?} {state:?}");
            self.bytes.extend(&body[..grown]);
        } else if before == 0 && kept > 0 {
            // No byte and one byte look the same: the offset of the next chunk tells which.
            let first = BodyTransfer::Sized(Bytes::copy_from_slice(&body[..1]));
            let probe = self.send(registry, Method::PATCH, "", Some(b"0-0"), &first).await;
            assert!(matches!(probe.status.as_u16(), 202 | 416), "{probe:?}");
            self.bytes.extend(&body[..1]);
        }
    }
}
