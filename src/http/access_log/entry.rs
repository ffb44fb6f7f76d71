//! Entry of the access log: all that its line tells about a request.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Request, Uri, Version};

use crate::client_address::ClientAddress;

/// Longest text of each kind that an entry holds, in bytes as the client sent them.
const MAX_TARGET_BYTES: usize = 2048;
const MAX_HEADER_BYTES: usize = 1024;
const MAX_METHOD_BYTES: usize = 32;

/// Parameters of queries whose values are logged. All others may be secrets: the state of distribution's
/// uploads, tokens, passwords.
const LOGGED_PARAMETERS: [&str; 8] = ["artifactType", "digest", "from", "last", "mount", "n", "ns", "tag"];

/// Value in place of a secret.
const SECRET: &str = "***";

/// Fixed share of an entry in the queue's capacity, in bytes.
const OVERHEAD_BYTES: usize = 320;

/// Entry about one request.
#[derive(Clone, Debug)]
pub struct AccessLogEntry {
    /// Time at which the request began.
    pub time: SystemTime,
    /// Address of the client, if the server knows it.
    pub client: Option<ClientAddress>,
    /// Authenticated user.
    pub identity: Option<String>,
    /// Method, such as `GET`.
    pub method: String,
    /// Path and query, without secrets.
    pub target: String,
    /// Version of HTTP.
    pub version: Version,
    /// Header `Referer`, without user and query.
    pub referer: Option<Box<[u8]>>,
    /// Header `User-Agent`.
    pub user_agent: Option<Box<[u8]>>,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
    /// Bytes of the request's body that were received.
    pub received: u64,
    /// Time from the begin of the request to the end of the answer.
    pub duration: Duration,
    /// True if the answer was sent to its end.
    pub is_complete: bool,
    /// Repository of the endpoint.
    pub repository: Option<String>,
    /// Digest that the answer is about.
    pub digest: Option<String>,
    /// Identifier of the request.
    pub request_id: Option<String>,
    /// Trace that the request belongs to.
    pub trace_id: Option<String>,
}

impl AccessLogEntry {
    /// Creates the entry of a request that begins now. What only the answer tells is added later.
    #[must_use]
    pub fn begin<B>(request: &Request<B>) -> Self {
        let header = |name: HeaderName, limit: fn(&[u8]) -> &[u8]| {
            bytes(request.headers(), &name)
                .map(limit)
                .map(|value| Box::<[u8]>::from(cut(value, MAX_HEADER_BYTES)))
        };
        Self {
            time: SystemTime::now(),
            client: None,
            identity: None,
            method: String::from_utf8_lossy(cut(request.method().as_str().as_bytes(), MAX_METHOD_BYTES))
                .into(),
            target: target(request.uri()),
            version: request.version(),
            referer: header(http::header::REFERER, without_secrets),
            user_agent: header(http::header::USER_AGENT, |value| value),
            status: 0,
            sent: 0,
            received: 0,
            duration: Duration::ZERO,
            is_complete: false,
            repository: None,
            digest: None,
            request_id: None,
            trace_id: None,
        }
    }

    /// Returns the share of the queue's capacity that the entry takes.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&self.identity, &self.repository, &self.digest, &self.request_id, &self.trace_id];
        let optional: usize = texts.into_iter().flatten().map(String::len).sum();
        let headers: usize =
            [&self.referer, &self.user_agent].into_iter().flatten().map(|value| value.len()).sum();
        OVERHEAD_BYTES + self.method.len() + self.target.len() + optional + headers
    }
}

fn bytes<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(http::HeaderValue::as_bytes)
}

fn cut(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}

/// Returns path and query without secrets, cut to a length.
fn target(uri: &Uri) -> String {
    let mut target = String::from(uri.path());
    // The query of a token endpoint names users and asks for rights.
    let query = uri.query().filter(|_| !uri.path().ends_with("/_token"));
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    for (index, parameter) in parameters.enumerate() {
        if target.len() > MAX_TARGET_BYTES {
            break;
        }
        target.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if LOGGED_PARAMETERS.contains(&name) => target.push_str(parameter),
            Some((name, _)) => target.extend([name, "=", SECRET]),
            None if parameter.is_empty() => {}
            // Without a name it may be a secret itself.
            None => target.push_str(SECRET),
        }
    }
    if target.len() > MAX_TARGET_BYTES {
        target.truncate(target.floor_char_boundary(MAX_TARGET_BYTES));
        target.push_str("...");
    }
    target
}

/// Returns a URL without its user and without its query.
fn without_secrets(url: &[u8]) -> &[u8] {
    let end = url.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(url.len());
    let url = &url[..end];
    match url.windows(3).position(|three| three == b"://") {
        // An "@" after the host is rare, and then the host is lost, not a secret told.
        Some(scheme) => match url.iter().rposition(|byte| *byte == b'@') {
            Some(at) if at > scheme => &url[at + 1..],
            _ => url,
        },
        None => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> String {
        target(&uri.parse().unwrap())
    }

    #[test]
    fn secrets_in_queries_are_not_logged() {
        assert_eq!(
            of("/v2/a/blobs/uploads/1?_state=s3cret&digest=sha256:ab"),
            "/v2/a/blobs/uploads/1?_state=***&digest=sha256:ab"
        );
        assert_eq!(of("/v2/_token?account=alice&password=s3cret"), "/v2/_token");
        assert_eq!(
            of("/v2/?s3cret&n=1&access_token=s3cret&tag%3d=s3cret"),
            "/v2/?***&n=1&access_token=***&tag%3d=***"
        );
        assert_eq!(of("http://user:s3cret@host/v2/"), "/v2/");
        assert_eq!(of("/v2/?"), "/v2/?");
        assert_eq!(of("/v2/"), "/v2/");
    }

    #[test]
    fn a_long_target_is_cut() {
        for uri in [format!("/v2/{}", "a".repeat(60_000)), format!("/v2/?{}", "n=1&".repeat(15_000))] {
            let target = of(&uri);
            assert!(target.len() == MAX_TARGET_BYTES + 3 && target.ends_with("..."), "{}", target.len());
        }
    }

    #[test]
    fn a_referer_has_neither_user_nor_query() {
        for (url, logged) in [
            ("https://example.com/a?token=s3cret", "https://example.com/a"),
            ("https://user:s3cret@example.com/a#x", "example.com/a"),
            ("https://user:s3c/ret@example.com", "example.com"),
            ("nonsense", "nonsense"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(url.as_bytes()), logged.as_bytes(), "{url}");
        }
    }
}
