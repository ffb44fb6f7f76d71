//! Signatures of requests, version 4 (AWS, "Authenticating Requests"). Pure.
//!
//! The signer of `object_store` takes the time of this machine. A store refuses a time that is 15 minutes off, and a
//! removal that is fenced is signed with the time of the store at which its right to remove was checked.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use object_store::aws::AwsCredential;
use percent_encoding::utf8_percent_encode;
use quinistry_oci::{Algorithm, Digest};
use reqwest::Url;
use ring::hmac;

use crate::transport::{PATH, QUERY, Request};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Value in place of the hash of a body that TLS protects.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Credential, region and time of a signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signer<'a> {
    pub(super) credential: &'a AwsCredential,
    pub(super) region: &'a str,
    pub(super) now: SystemTime,
}

/// Returns the path of a key in a URL. Stores compare it with the signed one byte for byte.
pub(super) fn encode_path(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// Sets the query of a URL, encoded as signatures demand.
pub(super) fn set_query(url: &mut Url, pairs: &[(&str, &str)]) {
    url.set_query((!pairs.is_empty()).then(|| canonical_query(pairs)).as_deref());
}

pub(super) fn canonical_query(pairs: &[(&str, &str)]) -> String {
    let encode = |text| utf8_percent_encode(text, QUERY).to_string();
    let mut encoded: Vec<_> = pairs.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    encoded.sort_unstable();
    let pairs: Vec<_> = encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Returns the day and the second of a signature.
pub(super) fn times(now: SystemTime) -> (String, String) {
    let now = Timestamp::try_from(now).unwrap_or_default().to_zoned(TimeZone::UTC);
    (now.strftime("%Y%m%d").to_string(), now.strftime("%Y%m%dT%H%M%SZ").to_string())
}

/// Returns the `Host` that the client sends: without the port that belongs to the scheme.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

// === impl Signer ===

impl Signer<'_> {
    /// Signs a request in its headers. The body is hashed where TLS does not protect it.
    pub(super) fn sign(self, request: &mut Request) {
        let hash = match request.url.scheme() {
            "https" => UNSIGNED_PAYLOAD.to_owned(),
            _ => request.body.digest(Algorithm::Sha256).hex().to_owned(),
        };
        let (day, second) = times(self.now);
        set(&mut request.headers, "x-amz-content-sha256", &hash);
        set(&mut request.headers, "x-amz-date", &second);
        if let Some(token) = &self.credential.token {
            set(&mut request.headers, "x-amz-security-token", token);
        }
        let query = request.url.query().unwrap_or_default();
        let canonical =
            Canonical { method: &request.method, url: &request.url, query, headers: &request.headers };
        let (text, names) = canonical.text(&hash);
        let signature = self.signature(&day, &second, &text);
        let value = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={names}, Signature={signature}",
            self.credential.key_id,
            self.scope(&day)
        );
        set(&mut request.headers, AUTHORIZATION.as_str(), &value);
    }

    /// Signs a URL in its query, so that its holder may send the request until it expires.
    pub(super) fn sign_url(self, method: &Method, url: &mut Url, pairs: &[(&str, &str)], expiry: Duration) {
        let (day, second) = times(self.now);
        let credential = format!("{}/{}", self.credential.key_id, self.scope(&day));
        let expiry = expiry.as_secs().to_string();
        let mut pairs = pairs.to_vec();
        pairs.extend([
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential[..]),
            ("X-Amz-Date", &second[..]),
            ("X-Amz-Expires", &expiry[..]),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        if let Some(token) = &self.credential.token {
            pairs.push(("X-Amz-Security-Token", &token[..]));
        }
        let query = canonical_query(&pairs);
        let headers = HeaderMap::new();
        let canonical = Canonical { method, url, query: &query, headers: &headers };
        let (text, _) = canonical.text(UNSIGNED_PAYLOAD);
        let signature = self.signature(&day, &second, &text);
        url.set_query(Some(&format!("{query}&X-Amz-Signature={signature}")));
    }

    fn scope(self, day: &str) -> String {
        format!("{day}/{}/s3/aws4_request", self.region)
    }

    fn signature(self, day: &str, second: &str, canonical: &str) -> String {
        let hash = Digest::sha256(canonical.as_bytes());
        let text = format!("{ALGORITHM}\n{second}\n{}\n{}", self.scope(day), hash.hex());
        let secret = format!("AWS4{}", self.credential.secret_key);
        let mut key = mac(secret.as_bytes(), day);
        for part in [self.region, "s3", "aws4_request"] {
            key = mac(key.as_ref(), part);
        }
        mac(key.as_ref(), &text).as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// Sets a header. A value that no header can hold is left out, so that the store refuses the signature.
fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = name.parse::<HeaderName>();
    if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
        value.set_sensitive(matches!(name.as_str(), "authorization" | "x-amz-security-token"));
        headers.insert(name, value);
    }
}

/// Parts of a request that are signed.
pub(super) struct Canonical<'a> {
    pub(super) method: &'a Method,
    pub(super) url: &'a Url,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Canonical<'_> {
    /// Returns the text that is hashed, and the names of the headers in it: the host, and those of the protocol,
    /// which change the meaning of a request.
    pub(super) fn text(&self, hash: &str) -> (String, String) {
        let Self { method, url, query, headers } = self;
        let mut signed = vec![("host", host(url))];
        for (name, value) in *headers {
            if name.as_str().starts_with("x-amz-") {
                signed.push((name.as_str(), value.to_str().unwrap_or_default().trim().to_owned()));
            }
        }
        signed.sort_unstable();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut lines = String::new();
        for (name, value) in &signed {
            let _ = writeln!(lines, "{name}:{value}");
        }
        (format!("{method}\n{}\n{query}\n{lines}\n{names}\n{hash}", url.path()), names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2013-05-24, the day of the examples of "Authenticating Requests" in the API reference of Amazon S3.
    const DAY: u64 = 1_369_353_600;

    fn credential() -> AwsCredential {
        AwsCredential {
            key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        }
    }

    fn signer(credential: &AwsCredential) -> Signer<'_> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(DAY);
        Signer { credential, region: "us-east-1", now }
    }

    #[test]
    fn a_signed_url_is_that_of_the_reference() {
        let mut url: Url = "https://examplebucket.s3.amazonaws.com/test.txt".parse().unwrap();
        signer(&credential()).sign_url(&Method::GET, &mut url, &[], Duration::from_hours(24));
        assert_eq!(
            url.query().unwrap(),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3\
             %2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn signed_headers_are_those_of_the_reference() {
        let hash = Digest::sha256(b"").hex().to_owned();
        let mut headers = HeaderMap::new();
        set(&mut headers, "x-amz-content-sha256", &hash);
        set(&mut headers, "x-amz-date", "20130524T000000Z");
        let url: Url = "https://examplebucket.s3.amazonaws.com/?lifecycle".parse().unwrap();
        let canonical = Canonical { method: &Method::GET, url: &url, query: "lifecycle=", headers: &headers };
        let (text, names) = canonical.text(&hash);
        assert_eq!(names, "host;x-amz-content-sha256;x-amz-date");
        assert_eq!(
            signer(&credential()).signature("20130524", "20130524T000000Z", &text),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
    }

    #[test]
    fn a_body_is_hashed_where_tls_does_not_protect_it() {
        let credential = AwsCredential { token: Some("t".into()), ..credential() };
        let mut request = Request {
            method: Method::PUT,
            url: "http://127.0.0.1:9000/b/a%20b?x=1".parse().unwrap(),
            headers: HeaderMap::new(),
            body: "x".into(),
        };
        signer(&credential).sign(&mut request);
        let header = |request: &Request, name: &str| request.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header(&request, "x-amz-content-sha256"), Digest::sha256(b"x").hex());
        let names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,";
        assert!(header(&request, "authorization").contains(names));
        assert!(request.headers["authorization"].is_sensitive());
        request.url.set_scheme("https").unwrap();
        signer(&credential).sign(&mut request);
        assert_eq!(header(&request, "x-amz-content-sha256"), UNSIGNED_PAYLOAD);
    }

    #[test]
    fn paths_and_queries_are_encoded_once() {
        assert_eq!(encode_path("a/b c/%2e%2e/~_-.\u{fc}+"), "a/b%20c/%252e%252e/~_-.%C3%BC%2B");
        let mut url: Url = "http://h/".parse().unwrap();
        set_query(&mut url, &[("uploads", ""), ("prefix", "a/b"), ("a", "+ ~")]);
        assert_eq!(url.as_str(), "http://h/?a=%2B%20~&prefix=a%2Fb&uploads=");
    }
}
