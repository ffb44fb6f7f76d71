//! Requests by what they ask for.

use std::ops::Range;

use http::Method;
use quinistry_bucket::testing::{RequestKind, SentRequest};

use super::Shape;
use super::delete;
use super::request::Request;

/// Operation of a request.
#[derive(Debug)]
pub(super) enum Operation {
    HeadBucket,
    /// Question for a setting of the bucket.
    Setting(String),
    List,
    ListUploads,
    DeleteMany,
    Get,
    Head,
    Put,
    Copy {
        from: String,
    },
    Delete,
    CreateMultipart,
    PutPart {
        number: u32,
    },
    CopyPart {
        number: u32,
        from: String,
        /// `None`: the whole object.
        range: Option<Range<u64>>,
    },
    Complete,
    Abort,
    ListParts,
}

/// Condition of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Always,
    Absent,
    Version(String),
}

/// Queries that ask for a setting of the bucket.
const SETTINGS: [&str; 8] =
    ["location", "versioning", "lifecycle", "policyStatus", "object-lock", "acl", "policy", "encryption"];

impl Operation {
    /// Returns `None` for a request that the stub does not know.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let has = |name| request.parameter(name).is_some();
        let upload = has("uploadId");
        if request.key.is_empty() {
            let setting = SETTINGS.iter().find(|name| has(name));
            return match (&request.method, setting) {
                (&Method::HEAD, _) => Some(Self::HeadBucket),
                (&Method::GET, Some(setting)) => Some(Self::Setting((*setting).to_owned())),
                (&Method::GET, None) if has("uploads") => Some(Self::ListUploads),
                (&Method::GET, None) => Some(Self::List),
                (&Method::POST, _) if has("delete") => Some(Self::DeleteMany),
                _ => None,
            };
        }
        let source = request.header("x-amz-copy-source").or_else(|| request.header("x-goog-copy-source"));
        let source = source.and_then(source_key);
        let number = request.parameter("partNumber").and_then(|number| number.parse().ok());
        match (&request.method, upload) {
            (&Method::GET, true) => Some(Self::ListParts),
            (&Method::GET, false) => Some(Self::Get),
            (&Method::HEAD, _) => Some(Self::Head),
            (&Method::PUT, true) => Some(match source {
                Some(from) => {
                    let range = request.header("x-amz-copy-source-range").and_then(range);
                    Self::CopyPart { number: number?, from, range }
                }
                None => Self::PutPart { number: number? },
            }),
            (&Method::PUT, false) => Some(source.map_or(Self::Put, |from| Self::Copy { from })),
            (&Method::DELETE, true) => Some(Self::Abort),
            (&Method::DELETE, false) => Some(Self::Delete),
            (&Method::POST, true) => Some(Self::Complete),
            (&Method::POST, false) if has("uploads") => Some(Self::CreateMultipart),
            _ => None,
        }
    }

    /// Returns the kind under which the request is counted; `None` for those of the bucket itself.
    pub(super) fn kind(&self) -> Option<RequestKind> {
        Some(match self {
            Self::HeadBucket | Self::Setting(_) => return None,
            Self::List => RequestKind::List,
            Self::ListUploads => RequestKind::ListUploads,
            Self::DeleteMany => RequestKind::DeleteMany,
            Self::Get => RequestKind::Get,
            Self::Head => RequestKind::Head,
            Self::Put => RequestKind::Put,
            Self::Copy { .. } => RequestKind::Copy,
            Self::Delete => RequestKind::Delete,
            Self::CreateMultipart => RequestKind::CreateMultipart,
            Self::PutPart { .. } => RequestKind::PutPart,
            Self::CopyPart { .. } => RequestKind::CopyPart,
            Self::Complete => RequestKind::Complete,
            Self::Abort => RequestKind::Abort,
            Self::ListParts => RequestKind::ListParts,
        })
    }

    /// Returns the entry of the log.
    pub(super) fn sent(&self, request: &Request, shape: Shape) -> Option<SentRequest> {
        let first = matches!(self, Self::DeleteMany).then(|| delete::keys(request).into_iter().next());
        let key = match first.flatten() {
            Some(key) => key,
            None if request.key.is_empty() => request.parameter("prefix").unwrap_or("").to_owned(),
            None => request.key.clone(),
        };
        let is_conditional = condition(request, shape) != Wanted::Always
            && matches!(self, Self::Put | Self::Delete | Self::Complete | Self::Copy { .. });
        Some(SentRequest { kind: self.kind()?, key, is_conditional })
    }
}

/// Returns the condition of a change.
pub(super) fn condition(request: &Request, shape: Shape) -> Wanted {
    if shape == Shape::Gcs {
        return match request.header("x-goog-if-generation-match") {
            None => Wanted::Always,
            Some("0") => Wanted::Absent,
            Some(generation) => Wanted::Version(generation.to_owned()),
        };
    }
    match (request.header("if-none-match"), request.header("if-match")) {
        (Some("*"), _) => Wanted::Absent,
        (_, Some(tag)) => Wanted::Version(format!("\"{}\"", tag.trim_matches('"'))),
        _ => Wanted::Always,
    }
}

/// Returns the key of a source such as `/bucket/key`.
fn source_key(source: &str) -> Option<String> {
    let source = percent_encoding::percent_decode_str(source).decode_utf8().ok()?;
    source.trim_start_matches('/').split_once('/').map(|(_, key)| key.to_owned())
}

/// Parses a range such as `bytes=0-9`; one without an end reaches to that of the object.
pub(super) fn range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()?.saturating_add(1) };
    Some(first.parse().ok()?..end)
}
