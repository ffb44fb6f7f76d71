//! Headers that every response has beside its own, as an administrator wants them. Pure.

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, CONTENT_LENGTH, InvalidHeaderName, InvalidHeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers that frame a message or belong to a connection (RFC 9110, 7.6.1; RFC 9112, 6): the server alone may
/// set them.
const FRAMING: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Headers for every response, none of which frames a message.
///
/// ```
/// use quinistry_registry::ExtraHeaders;
///
/// let mut headers = ExtraHeaders::default();
/// headers.add("Strict-Transport-Security", "max-age=31536000")?;
/// assert!(headers.add("Content-Length", "0").is_err());
/// # Ok::<(), quinistry_registry::ExtraHeadersError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraHeaders(HeaderMap);

/// Reason why a header is refused.
#[derive(Debug, thiserror::Error)]
pub enum ExtraHeadersError {
    /// Text that no header can have as a name.
    #[error("header name is not valid: use letters, digits and '-'")]
    Name(#[from] InvalidHeaderName),
    /// Text that no header can have as a value.
    #[error("header value is not valid: it has a line break or another control character")]
    Value(#[from] InvalidHeaderValue),
    /// Header that the server alone may set.
    #[error("header {0} frames messages, which the server does itself")]
    Framing(HeaderName),
}

impl ExtraHeaders {
    /// Adds a header by its text. Several values of one name become several header fields.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), ExtraHeadersError> {
        self.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?)
    }

    /// Adds a header, whose value may hold bytes beyond ASCII. Several values of one name become several header
    /// fields.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), ExtraHeadersError> {
        if is_framing(&name) {
            return Err(ExtraHeadersError::Framing(name));
        }
        self.0.append(name, value);
        Ok(())
    }

    /// Returns true if web pages of other hosts may read responses, which then ask before with OPTIONS (CORS).
    pub(crate) fn allow_other_origins(&self) -> bool {
        self.0.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
    }

    /// Adds the headers to those of a response that a handler made. A header of the response itself, such as
    /// its `Content-Type`, stays as it is, as in distribution.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        for name in self.0.keys() {
            if !headers.contains_key(name) {
                for value in self.0.get_all(name) {
                    headers.append(name, value.clone());
                }
            }
        }
    }
}

/// Returns true for a header that the server alone may set.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(name)
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn headers_with_several_values_are_added_and_the_responses_own_stay() {
        let mut extra = ExtraHeaders::default();
        for (name, value) in [("x-a", "1"), ("X-A", "2"), ("Content-Type", "text/html"), ("x-b", "")] {
            extra.add(name, value).unwrap();
        }
        let mut headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        extra.add_to(&mut headers);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers.get_all(CONTENT_TYPE).iter().collect::<Vec<_>>(), ["application/json"]);
        assert_eq!((headers.len(), &headers["x-b"]), (4, &HeaderValue::from_static("")));
    }

    #[test]
    fn headers_that_frame_a_message_or_break_lines_are_refused() {
        let add = |name: &str, value: &str| ExtraHeaders::default().add(name, value);
        for name in
            ["Content-Length", "TRANSFER-ENCODING", "connection", "Keep-Alive", "Upgrade", "Trailer", "TE"]
        {
            assert!(matches!(add(name, "x"), Err(ExtraHeadersError::Framing(_))), "{name}");
        }
        for name in ["", "a b", "a:", "a\r\nb", "ä"] {
            assert!(matches!(add(name, "x"), Err(ExtraHeadersError::Name(_))), "{name:?}");
        }
        for value in ["a\r\nSet-Cookie: b", "a\nb", "\0", "\u{7f}"] {
            assert!(matches!(add("x-a", value), Err(ExtraHeadersError::Value(_))), "{value:?}");
        }
    }
}
