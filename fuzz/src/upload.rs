//! An upload session, and what it should have received: the model that `ranges` and `uploads` hold the registry against
//! (distribution-spec, section Pushing a blob in chunks).

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use quinistry::oci::ErrorCode;

use crate::{Answer, Registry, Sent, request};

/// A session that was opened, and has not ended.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Where it is.
    pub location: String,
    /// What it has received.
    pub bytes: Vec<u8>,
}

/// What a request to a session does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All of the body is added.
    On,
    /// It is refused. Of the body so many bytes may be kept: what came before it broke off, or went on too long.
    Refused {
        /// At most.
        kept: usize,
    },
}

/// What should come of a body, sent to a session of `offset` bytes.
#[must_use]
pub fn turn(offset: usize, content_range: Option<&[u8]>, sent: &Sent) -> Turn {
    let came = sent.bytes().len();
    let cut = matches!(sent, Sent::Cut(..));
    let Some(range) = content_range else {
        return if cut { Turn::Refused { kept: came } } else { Turn::On };
    };
    let Some((first, last)) = numbers(range) else { return Turn::Refused { kept: 0 } };
    let begins = first == offset as u128 && last >= first;
    let wanted = if begins { last - first + 1 } else { 0 };
    let announced = match sent {
        Sent::Whole(bytes) => Some(bytes.len() as u128),
        Sent::Chunked(_) => None,
        Sent::Cut(announced, _) => Some(u128::from(*announced)),
    };
    if !begins || announced.is_some_and(|announced| announced != wanted) {
        return Turn::Refused { kept: 0 };
    }
    if came as u128 == wanted && !cut {
        return Turn::On;
    }
    Turn::Refused { kept: came.min(usize::try_from(wanted).unwrap_or(usize::MAX)) }
}

/// `^[0-9]+-[0-9]+$`; what no number holds is greater than all that one does.
fn numbers(range: &[u8]) -> Option<(u128, u128)> {
    let (first, last) = std::str::from_utf8(range).ok()?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u128::MAX / 2))
    };
    Some((number(first)?, number(last)?))
}

impl Upload {
    /// What a 202 has opened.
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

    /// What it says of itself.
    #[must_use]
    pub fn range(&self) -> String {
        format!("0-{}", self.bytes.len().saturating_sub(1))
    }

    /// The answer names this session, as it is.
    #[track_caller]
    pub fn assert_told(&self, answer: &Answer) {
        assert_eq!(answer.header(LOCATION.as_str()), Some(&*self.location), "{answer:?}");
        assert_eq!(answer.header(RANGE.as_str()), Some(&*self.range()), "{answer:?}");
    }

    /// It is as far as it should be.
    pub async fn assert_there(&self, registry: &Registry) {
        let answer = registry.ask_for(Method::GET, &self.location).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        self.assert_told(&answer);
    }

    /// Sends the next of it.
    pub async fn patch(&mut self, registry: &Registry, content_range: Option<&[u8]>, sent: &Sent) {
        let turn = turn(self.bytes.len(), content_range, sent);
        let answer = self.send(registry, Method::PATCH, "", content_range, sent).await;
        match turn {
            Turn::On => {
                assert_eq!(answer.status, 202, "{answer:?}");
                self.bytes.extend(sent.bytes());
                self.assert_told(&answer);
            }
            Turn::Refused { kept } => self.refused(registry, &answer, sent, kept).await,
        }
        self.assert_there(registry).await;
    }

    /// Sends what is to be judged by the caller.
    pub async fn send(
        &self,
        registry: &Registry,
        method: Method,
        query: &str,
        content_range: Option<&[u8]>,
        sent: &Sent,
    ) -> Answer {
        let uri = format!("{}{query}", self.location).parse().unwrap();
        let range = content_range.map(|range| (CONTENT_RANGE.as_str(), range));
        registry.ask(request(method, uri, range.as_slice(), sent.clone())).await
    }

    /// The answer is a refusal of a body, of which `kept` bytes may have been kept: finds out how many were.
    pub async fn refused(&mut self, registry: &Registry, answer: &Answer, sent: &Sent, kept: usize) {
        let refused = match answer.status.as_u16() {
            416 => answer.code() == Some(ErrorCode::BlobUploadInvalid),
            400 => matches!(answer.code(), Some(ErrorCode::BlobUploadInvalid | ErrorCode::SizeInvalid)),
            _ => false,
        };
        assert!(refused, "{answer:?}");
        if answer.status == 416 {
            self.assert_told(answer);
        }
        let there = registry.ask_for(Method::GET, &self.location).await;
        assert_eq!(there.status, 204, "a refused chunk ends no session: {there:?}");
        let last = there.header(RANGE.as_str()).and_then(|range| range.strip_prefix("0-")).unwrap();
        let last: usize = last.parse().unwrap();
        let before = self.bytes.len();
        let body = sent.bytes();
        if last > 0 {
            let grown = (last + 1).checked_sub(before).expect("what was acknowledged stays");
            assert!(grown <= kept, "{grown} bytes more, and {kept} may be: {answer:?} {there:?}");
            self.bytes.extend(&body[..grown]);
        } else if before == 0 && kept > 0 {
            // Nothing or one byte, which look the same: where the next one goes tells which.
            let first = Sent::Whole(Bytes::copy_from_slice(&body[..1]));
            let probe = self.send(registry, Method::PATCH, "", Some(b"0-0"), &first).await;
            assert!(matches!(probe.status.as_u16(), 202 | 416), "{probe:?}");
            self.bytes.extend(&body[..1]);
        }
    }
}
