//! What can go wrong between this program and a registry, in words that say what to do.

use std::fmt;
use std::io;

use quinistry_oci::escape::{self, Escaped};
use quinistry_oci::layout::LayoutError;
use quinistry_oci::{Digest, ErrorBody, ErrorDetail};
use reqwest::StatusCode;

use super::credentials::CredentialError;
use super::platform::PlatformError;

/// An error of a source of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client itself cannot be built.
    #[error("failed to set up the HTTP client")]
    Setup {
        /// Why.
        source: Cause,
    },
    /// The certificates to trust cannot be had.
    #[error("failed to read certificates from {path}")]
    Certificates {
        /// The file.
        path: String,
        /// Why.
        source: Cause,
    },
    /// The host cannot be made part of a URL.
    #[error("'{}' is not a registry host", Escaped(&escape::without_userinfo(.0)))]
    Host(String),
    /// No connection, or it broke before an answer came.
    #[error("failed to reach {host}{hint}")]
    Connect {
        /// The host.
        host: String,
        /// What to look at.
        hint: Hint,
        /// Why.
        source: Cause,
    },
    /// Nothing came for too long.
    #[error("failed to {what}: no answer within {seconds} seconds")]
    Timeout {
        /// What was being done.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The registry answered, and not what was hoped for.
    #[error("failed to {what}: {status}{}", details(errors))]
    Status {
        /// What was being done.
        what: String,
        /// The answer.
        status: StatusCode,
        /// What the registry says about it.
        errors: Vec<ErrorDetail<String>>,
    },
    /// The registry wants credentials and there are none.
    #[error("failed to {what}: {host} wants credentials; log in to it first (quinistry login {host})")]
    NoCredentials {
        /// What was being done.
        what: String,
        /// Which registry.
        host: String,
    },
    /// The registry or its token server refused the credentials.
    #[error("failed to {what}: {host} refused the credentials{}", details(errors))]
    Refused {
        /// What was being done.
        what: String,
        /// Which host.
        host: String,
        /// What it says about it.
        errors: Vec<ErrorDetail<String>>,
    },
    /// The registry names a token server to which nothing must be sent.
    #[error("{host} names a token server that is not to be trusted: {}", Escaped(realm))]
    Realm {
        /// Which registry.
        host: String,
        /// The token server.
        realm: String,
    },
    /// The registry does not keep to the specification.
    #[error("failed to {what}: unexpected answer: {}", Escaped(reason))]
    Protocol {
        /// What was being done.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The answer is longer than anything that makes sense.
    #[error("failed to {what}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// What was being done.
        what: String,
        /// The limit.
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
    /// The connection broke in the middle of the answer.
    #[error("failed to {what}: the connection broke")]
    Broken {
        /// What was being done.
        what: String,
        /// Why.
        source: Cause,
    },
    /// The bytes are not those that were asked for.
    #[error("failed to {what}: content does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// What was being done.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("failed to {what}: {actual} bytes where {expected} were announced")]
    Size {
        /// What was being done.
        what: String,
        /// What the descriptor says.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// No platform fits.
    #[error("failed to choose from the index")]
    Platform(#[from] PlatformError),
    /// Credentials cannot be had.
    #[error("failed to get credentials")]
    Credentials(#[from] CredentialError),
    /// What came cannot be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What is to be sent cannot be read.
    #[error("failed to read blob {digest} of the image to push")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: BoxError,
    },
    /// The image to push has another digest than the name it is to be pushed to.
    #[error("the image is {actual}, which cannot be pushed as {expected}")]
    OtherDigest {
        /// What was typed.
        expected: Digest,
        /// What the image is.
        actual: Digest,
    },
    /// A layer does not unpack to what the configuration says.
    #[error("layer {layer} does not unpack to its diff ID: expected {expected}, got {actual}")]
    DiffId {
        /// The layer as it travels.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What it unpacks to.
        actual: Digest,
    },
    /// A layer does not unpack at all.
    #[error("layer {layer} does not unpack")]
    Unpack {
        /// The layer.
        layer: Digest,
        /// Why.
        source: io::Error,
    },
}

/// At most this much of what a registry says is repeated.
const MAX_DETAIL: usize = 300;

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
    escape::line(&text.chars().take(MAX_DETAIL).collect::<String>())
}

/// The errors in the body of an answer; none if it is not of the specification's form.
pub(super) fn errors_in(body: &[u8]) -> Vec<ErrorDetail<String>> {
    serde_json::from_slice::<ErrorBody<String>>(body).map(|body| body.errors).unwrap_or_default()
}

/// What to look at when there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing in particular.
    None,
    /// Nobody listens.
    Refused,
    /// The name does not resolve.
    Name,
    /// The certificate is not trusted.
    Issuer,
    /// What came is no TLS.
    PlainHttp,
}

impl Hint {
    /// Whether another try is sure to fail as well.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Issuer | Self::PlainHttp)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "",
            Self::Refused => " (is a registry running there?)",
            Self::Name => " (is the name right?)",
            Self::Issuer => " (is its certificate's issuer to be trusted? then give it with --ca)",
            Self::PlainHttp => " (does it speak plain HTTP? then give --plain-http)",
        })
    }
}

/// The innermost reason of an error of the HTTP library, whose outer layers say the same thing four times.
#[derive(Debug)]
pub struct Cause(String);

// === impl Cause ===

impl Cause {
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
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
    /// From an error of the HTTP library while sending to `host`.
    pub(super) fn connect(host: &str, error: &reqwest::Error) -> Self {
        let source = Cause::of(error);
        let is = |text: &str| source.0.contains(text);
        let hint = if is("Connection refused") {
            Hint::Refused
        } else if is("invalid peer certificate") || is("UnknownIssuer") {
            Hint::Issuer
        } else if is("corrupt message") || is("handshake eof") {
            Hint::PlainHttp
        } else if error.is_connect() && is("lookup") {
            Hint::Name
        } else {
            Hint::None
        };
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
        let long = ErrorDetail { code: "A".into(), message: "x".repeat(9999) };
        assert_eq!(details(&[long]).len(), MAX_DETAIL);
    }

    #[test]
    fn the_innermost_cause_is_found_inside_io_errors() {
        let inner = io::Error::other(io::Error::other("deep"));
        assert_eq!(Cause::of(&inner).to_string(), "deep");
    }
}
