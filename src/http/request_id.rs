//! Identifiers of requests, by which the logs of several programs are joined.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Header with the identifier of a request, in requests of proxies and in answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Longest identifier that is taken from a proxy, in bytes.
const MAX_BYTES: usize = 64;

/// Identifier of a request: 1 to 64 letters, digits, dots, underscores and hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns the identifier that a trusted proxy has given the request; a random UUID (version 4) if there is
    /// none, or another client sent it.
    #[must_use]
    pub fn of(headers: &HeaderMap, is_peer_trusted: bool) -> Self {
        let mut given = headers.get_all(&X_REQUEST_ID).iter();
        match (is_peer_trusted, given.next(), given.next()) {
            (true, Some(given), None) if is_valid(given.as_bytes()) => {
                // A copy, since the value would keep the whole head of the request in memory.
                Self(HeaderValue::from_bytes(given.as_bytes()).expect("the bytes are of a header's value"))
            }
            _ => Self(Uuid::new_v4().to_string().parse().expect("a UUID is ASCII")),
        }
    }

    /// Returns the identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("an identifier is ASCII")
    }

    /// Returns the value of the header `X-Request-Id`.
    #[must_use]
    pub fn to_header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_valid(id: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(is_allowed)
}

/// Returns the trace that a request belongs to: 32 hexadecimal digits (W3C Trace Context, 3.2).
#[must_use]
pub fn trace_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(&TRACEPARENT)?.to_str().ok()?;
    let mut parts = value.split('-');
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let [version, trace, parent, flags] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && trace.bytes().any(|byte| byte != b'0')
        && is_hex(parent, 16)
        && is_hex(flags, 2)
        // Later versions may append fields.
        && (version != "00" || parts.next().is_none());
    is_valid.then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&[u8]]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn row_174_an_identifier_outside_the_grammar_is_replaced() {
        let long = [b'a'; 65];
        for given in [&b"a\""[..], b"", b"a b", b"a\tb", b"\xff", b"a;b", b"<x>", &long] {
            let id = RequestId::of(&headers(&X_REQUEST_ID, &[given]), true);
            assert_eq!(Uuid::parse_str(id.as_str()).unwrap().get_version_num(), 4, "{given:?}");
        }
        let two = headers(&X_REQUEST_ID, &[b"a", b"b"]);
        assert_eq!(RequestId::of(&two, true).as_str().len(), 36);
    }

    #[test]
    fn the_identifier_of_a_trusted_proxy_stays_and_that_of_a_stranger_does_not() {
        for given in ["req-1", "A.b_C-9", "0af7651916cd43dd8448eb211c80319c"] {
            let headers = headers(&X_REQUEST_ID, &[given.as_bytes()]);
            assert_eq!(RequestId::of(&headers, true).as_str(), given);
            assert_ne!(RequestId::of(&headers, false).as_str(), given);
        }
        assert_ne!(RequestId::of(&HeaderMap::new(), true), RequestId::of(&HeaderMap::new(), true));
    }

    #[test]
    fn a_trace_is_that_of_a_valid_traceparent() {
        let of = |value: &str| trace_id(&headers(&TRACEPARENT, &[value.as_bytes()]));
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(of(&format!("cc-{trace}-00f067aa0ba902b7-01-later")).as_deref(), Some(trace));
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }
}
