//! Errors between this program and a registry, with advice.

use std::fmt;
use std::io;

use quinistry_oci::escape::{self, Escaped};
use quinistry_oci::layout::LayoutError;
use quinistry_oci::{Digest, ErrorBody, ErrorDetail, PlatformNotFound};
use reqwest::{StatusCode, Url};

use super::credentials::CredentialError;
use super::tls::TlsFault;

/// Error of a push source of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Reason why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Building the HTTP client failed.
    #[error("failed to set up the HTTP client")]
    Setup {
        /// Underlying error.
        source: Cause,
    },
    /// Reading the certificates to trust failed.
    #[error("failed to read certificates from {path}")]
    Certificates {
        /// Path of the file.
        path: String,
        /// Underlying error.
        source: Cause,
    },
    /// The host cannot be part of a URL.
    #[error("'{}' is not a registry host", Escaped(&escape::without_userinfo(.0)))]
    Host(String),
    /// Connecting failed, or the connection broke before a response came.
    #[error("failed to reach {host}{hint}")]
    Connect {
        /// Host of the registry.
        host: String,
        /// Likely cause.
        hint: Hint,
        /// Underlying error.
        source: Cause,
    },
    /// The TLS connection failed.
    #[error("failed to reach {host}: {fault}")]
    Tls {
        /// Host of the registry.
        host: String,
        /// Reason and remedy.
        fault: TlsFault,
    },
    /// The server speaks TLS, and the request was plain HTTP.
    #[error(
        "failed to reach {host}: it speaks TLS, and the request was plain HTTP; leave out --plain-http, or, for a \
         registry on this machine, pass its certificate with --ca FILE"
    )]
    HttpsPort {
        /// Host of the registry.
        host: String,
    },
    /// The server answers, and is not a registry.
    #[error("{host} answers, but not as a registry does ({status} at /v2/); check the host and the port")]
    NotRegistry {
        /// Host that was asked.
        host: String,
        /// Status of the answer, or its kind.
        status: String,
    },
    /// No bytes came within the time limit.
    #[error("failed to {what}: no answer within {seconds} seconds")]
    Timeout {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Time limit in seconds.
        seconds: u64,
    },
    /// The registry answered with another status than the operation expects.
    #[error("failed to {what}: {status}{}{}", details(errors), advice(*status))]
    Status {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Status of the response.
        status: StatusCode,
        /// Errors in the body of the response.
        errors: Vec<ErrorDetail<String>>,
    },
    /// The registry requires credentials and there are none.
    #[error("failed to {what}: {host} requires credentials; log in to it first (quinistry login {host})")]
    NoCredentials {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Host of the registry.
        host: String,
    },
    /// The registry or its token server refused the credentials.
    #[error("failed to {what}: {by} refused the credentials{}; check user and password", details(errors))]
    Refused {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Host of the registry, or its token server.
        by: String,
        /// Errors in the body of the response.
        errors: Vec<ErrorDetail<String>>,
    },
    /// The registry names a token server that is less protected than the registry itself.
    #[error("{host} names a token server that is not to be trusted: {}", Escaped(realm))]
    Realm {
        /// Host of the registry.
        host: String,
        /// Address of the token server.
        realm: String,
    },
    /// The token server is elsewhere, and the registry that names it may be an impostor.
    #[error(
        "credentials for {host} are not sent to its token server {}: it is on another host, and {host} was not \
         reached by TLS with a verified certificate; reach {host} so, or give it a token server on its own host",
        Escaped(realm)
    )]
    Withheld {
        /// Host of the registry.
        host: String,
        /// Address of the token server.
        realm: String,
    },
    /// The response violates the specification.
    #[error("failed to {what}: unexpected answer: {}", Escaped(reason))]
    Protocol {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Violation in the response.
        reason: String,
    },
    /// The response is longer than the operation allows.
    #[error("failed to {what}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Limit in bytes.
        limit: u64,
    },
    /// The registry leads to more than any image needs: depth, number, bytes or time.
    #[error("failed to {what}: {reason}")]
    Bound {
        /// The operation that failed.
        what: String,
        /// The bound that was exceeded, and the remedy.
        reason: String,
    },
    /// The connection broke in the middle of the response.
    #[error("failed to {what}: the connection broke")]
    Broken {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Underlying error.
        source: Cause,
    },
    /// The bytes do not have the expected digest.
    #[error("failed to {what}: content does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Digest that was requested.
        expected: Digest,
        /// Digest of the bytes.
        actual: Digest,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("failed to {what}: {actual} bytes where {expected} were announced")]
    Size {
        /// Operation that failed; completes "failed to …".
        what: String,
        /// Size in the descriptor.
        expected: u64,
        /// Size of the response.
        actual: u64,
    },
    /// The index has no image for the platform.
    #[error("failed to choose from the index")]
    Platform(#[from] PlatformNotFound),
    /// Reading or storing credentials failed.
    #[error("failed to get credentials")]
    Credentials(#[from] CredentialError),
    /// Writing the pulled image failed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Reading the content to push failed.
    #[error("failed to read blob {digest} of the image to push")]
    Source {
        /// Digest of the blob.
        digest: Digest,
        /// Underlying error.
        source: BoxError,
    },
    /// The registry refuses an index some of whose images are not there.
    #[error(
        "the registry refuses index {digest}, some of whose images are not in the archive (`bundle --platform`); write \
         the archive without --platform, or let the registry accept such indexes (`quinistry serve --allow-sparse`)"
    )]
    SparseIndex {
        /// Digest of the index.
        digest: Digest,
        /// Answer of the registry.
        source: Box<ClientError>,
    },
    /// The image to push has another digest than its target names.
    #[error("the image is {actual}, which cannot be pushed as {expected}")]
    OtherDigest {
        /// Digest in the target's reference.
        expected: Digest,
        /// Digest of the image.
        actual: Digest,
    },
    /// A layer unpacks to other content than the configuration's diff ID names.
    #[error("layer {layer} does not unpack to its diff ID: expected {expected}, got {actual}")]
    DiffId {
        /// Digest of the stored layer.
        layer: Digest,
        /// Diff ID in the configuration.
        expected: Digest,
        /// Digest of the unpacked layer.
        actual: Digest,
    },
    /// Unpacking a layer failed.
    #[error("layer {layer} does not unpack")]
    Unpack {
        /// Digest of the layer.
        layer: Digest,
        /// Underlying error.
        source: io::Error,
    },
}

/// Codes of errors about a manifest that lists content that the registry lacks. distribution-spec, section Error Codes;
/// registries differ in the one that they use.
const MISSING_CONTENT_CODES: [&str; 4] =
    ["MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];
/// Length of a registry's error text that an error repeats.
const MAX_DETAIL_CHARS: usize = 300;

/// Formats errors as `: CODE: message; CODE: message`, escaped: the text goes to a terminal or a log.
fn details(errors: &[ErrorDetail<String>]) -> String {
    let mut text = String::new();
    for (number, error) in errors.iter().take(3).enumerate() {
        text += if number == 0 { ": " } else { "; " };
        text += &error.code;
        if !error.message.is_empty() {
            text += ": ";
            text += &error.message;
        }
    }
    escape::line(&text.chars().take(MAX_DETAIL_CHARS).collect::<String>())
}

/// Returns what to do about a status, if that is known.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "; if you lack the right to do this, ask for it, or log in as another user",
        StatusCode::TOO_MANY_REQUESTS => "; the registry limits requests, so try again later",
        _ => "",
    }
}

/// Parses the errors in the body of a response; none if it is not of the specification's form.
pub(super) fn errors_in(body: &[u8]) -> Vec<ErrorDetail<String>> {
    serde_json::from_slice::<ErrorBody<String>>(body).map(|body| body.errors).unwrap_or_default()
}

/// Likely cause of a failure to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// No likely cause is known.
    None,
    /// No process listens on the port.
    Refused,
    /// The name does not resolve.
    Name,
    /// The server closed the connection on a request in plain HTTP, as some do that speak TLS.
    ClosedInPlain,
}

// === impl Hint ===

impl Hint {
    /// Recognizes the innermost message of a failure, `connecting` or later.
    fn of(message: &str, connecting: bool) -> Self {
        if message.contains("Connection refused") {
            Self::Refused
        } else if connecting && message.contains("lookup") {
            Self::Name
        } else {
            Self::None
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "",
            Self::Refused => " (is a registry running there?)",
            Self::Name => " (is the name right?)",
            Self::ClosedInPlain => {
                " (does it speak TLS? then leave out --plain-http, or, for a registry on this machine, pass its \
                 certificate with --ca FILE)"
            }
        })
    }
}

/// Innermost reason of an error of the HTTP library, whose outer layers repeat one fact four times.
#[derive(Debug)]
pub struct Cause(String);

// === impl Cause ===

impl Cause {
    /// Returns the innermost reason of an error.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(fault) = TlsFault::find(error) {
            return Self(fault.to_string());
        }
        let mut text = error.to_string();
        let mut next = Some(error);
        while let Some(error) = next {
            text = error.to_string();
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                // `source` of such an error skips the error inside.
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        Self(text)
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl ClientError {
    /// Returns true if the registry says that it does not have what was requested.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Returns true if the registry may have refused a manifest because it lacks content that the manifest lists.
    pub(super) fn is_of_missing_manifest(&self) -> bool {
        let Self::Status { status, errors, .. } = self else { return false };
        matches!(status.as_u16(), 400 | 404 | 422)
            || errors.iter().any(|error| MISSING_CONTENT_CODES.contains(&error.code.as_str()))
    }

    /// Converts an error of the HTTP library while sending to `host` at `url`.
    pub(super) fn connect(host: &str, url: &Url, error: &reqwest::Error) -> Self {
        if let Some(fault) = TlsFault::find(error) {
            return Self::Tls { host: host.into(), fault };
        }
        let source = Cause::of(error);
        // A TLS alert, which some servers send in answer to a request in plain HTTP.
        if url.scheme() == "http" && source.0.contains("invalid HTTP version parsed") {
            return Self::HttpsPort { host: host.into() };
        }
        let is_closed = url.scheme() == "http" && source.0 == "connection closed before message completed";
        let hint = if is_closed { Hint::ClosedInPlain } else { Hint::of(&source.0, error.is_connect()) };
        Self::Connect { host: host.into(), hint, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_cannot_drive_a_terminal() {
        let body = br#"{"errors":[{"code":"DENIED","message":"\u001b[2Jno","detail":null},{"code":"X"}]}"#;
        assert_eq!(details(&errors_in(body)), r": DENIED: \u{1b}[2Jno; X");
        assert_eq!(details(&errors_in(b"<html>")), "");
        let long = ErrorDetail { code: "A".into(), message: "x".repeat(9999), detail: None };
        assert_eq!(details(&[long]).len(), MAX_DETAIL_CHARS);
    }

    #[test]
    fn only_some_answers_are_about_content_that_a_manifest_lists() {
        let is_missing = |status: u16, code: &str| {
            let detail = ErrorDetail { code: code.into(), message: String::new(), detail: None };
            let (what, status) = (String::new(), StatusCode::from_u16(status).unwrap());
            ClientError::Status { what, status, errors: vec![detail] }.is_of_missing_manifest()
        };
        for status in [400, 404, 422] {
            assert!(is_missing(status, ""), "{status}");
        }
        for status in [403, 405, 413, 429, 500, 503, 507] {
            assert!(!is_missing(status, "DENIED"), "{status}");
        }
        for code in MISSING_CONTENT_CODES {
            assert!(is_missing(409, code), "{code}");
        }
        let error = ClientError::Timeout { what: String::new(), seconds: 1 };
        assert!(!error.is_of_missing_manifest());
    }

    #[test]
    fn the_innermost_cause_is_found_inside_io_errors() {
        let inner = io::Error::other(io::Error::other("deep"));
        assert_eq!(Cause::of(&inner).to_string(), "deep");
    }
}
