//! Encodings of texts in requests.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

/// All characters but the unreserved ones of RFC 3986, section 2.3.
pub(crate) const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// All characters but the unreserved ones and the slash.
pub(crate) const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Sets a header. A version that no header can hold is none that the store gave: it becomes an empty value, which
/// matches no object.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("\"\"")));
}
