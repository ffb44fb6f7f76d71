//! Signatures of Azure Blob Storage: of requests by the shared key of the account, and of URLs. Pure.
//!
//! The signer of `object_store` takes the time of this machine. A store refuses a request that is 15 minutes off, and a
//! URL whose validity begins a second later by its own clock. Here the time is the store's, and a URL has no begin.

use std::fmt;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use object_store::azure::AzureCredential;
use reqwest::Url;
use ring::hmac;

use super::delegation::DelegationKey;
use crate::transport::Request;

/// Version of the interface.
pub(super) const VERSION: &str = "2023-11-03";

const VERSION_HEADER: HeaderName = HeaderName::from_static("x-ms-version");
const DATE_HEADER: HeaderName = HeaderName::from_static("x-ms-date");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Headers whose values are signed, in the order of the signed text.
const SIGNED_HEADERS: [HeaderName; 11] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_MD5,
    CONTENT_TYPE,
    DATE,
    IF_MODIFIED_SINCE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
    RANGE,
];

/// Key that signs.
#[derive(Clone)]
pub(super) struct SigningKey(hmac::Key);

/// Keys that sign URLs.
#[derive(Clone, Copy, Debug)]
pub(super) enum UrlKey<'a> {
    /// Shared key of the account.
    Shared(&'a SigningKey),
    /// Key that the store gave an identity.
    Delegated(&'a DelegationKey),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl SigningKey ===

impl SigningKey {
    /// Reads a key; `None` if it is not Base64.
    pub(super) fn of_base64(text: &str) -> Option<Self> {
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &BASE64_STANDARD.decode(text.trim()).ok()?)))
    }

    fn sign(&self, text: &str) -> String {
        BASE64_STANDARD.encode(hmac::sign(&self.0, text.as_bytes()))
    }
}

/// Adds to a request how the store knows the sender: a signature by the shared key, a token, or a shared access
/// signature, which is part of the URL.
pub(super) fn authorize(
    request: &mut Request,
    account: &str,
    (credential, key): (&AzureCredential, Option<&SigningKey>),
    now: SystemTime,
) {
    request.headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
        request.headers.insert(DATE_HEADER, date);
    }
    let authorization = match (credential, key) {
        (AzureCredential::AccessKey(_), Some(key)) => {
            let text = request_text(&request.method, &request.url, &request.headers, account);
            format!("SharedKey {account}:{}", key.sign(&text))
        }
        // Without its key, the store refuses the request.
        (AzureCredential::AccessKey(_), None) => return,
        (AzureCredential::BearerToken(token), _) => format!("Bearer {token}"),
        (AzureCredential::SASToken(pairs), _) => {
            request.url.query_pairs_mut().extend_pairs(pairs);
            return;
        }
    };
    if let Ok(mut value) = HeaderValue::try_from(authorization) {
        value.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, value);
    }
}

/// Returns the text that is signed for a request ("Authorize with Shared Key", version 2015-02-21 and later).
fn request_text(method: &Method, url: &Url, headers: &HeaderMap, account: &str) -> String {
    let value =
        |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut text = format!("{method}\n");
    for name in &SIGNED_HEADERS {
        let value = value(name);
        // A length of zero is left out.
        text.push_str(if *name == CONTENT_LENGTH && value == "0" { "" } else { value });
        text.push('\n');
    }
    let mut own: Vec<&HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-ms-")).collect();
    own.sort_unstable_by_key(|name| name.as_str());
    for name in own {
        text.extend([name.as_str(), ":", value(name), "\n"]);
    }
    text.extend(["/", account, url.path()]);
    let mut pairs: Vec<_> =
        url.query_pairs().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    pairs.sort_unstable();
    for (name, value) in pairs {
        text.extend(["\n", &name, ":", &value]);
    }
    text
}

/// Returns the query of a URL by which a blob is read until a time ("Create a service SAS" and "Create a user
/// delegation SAS", version 2020-12-06 and later). `blob` is account, container and name, joined by slashes.
pub(super) fn shared_access(blob: &str, until: SystemTime, key: UrlKey<'_>) -> Vec<(&'static str, String)> {
    let until = time(until);
    // Permission, begin, end and resource.
    let mut fields = vec!["r", "", &until, "", ""];
    let resource = format!("/blob/{blob}");
    fields[3] = &resource;
    let mut pairs =
        vec![("sv", VERSION.to_owned()), ("sp", "r".into()), ("se", until.clone()), ("sr", "b".into())];
    let key = match key {
        UrlKey::Shared(key) => key,
        UrlKey::Delegated(delegated) => {
            // In place of the name of a policy: the key, and three identities.
            fields.pop();
            for (name, value) in delegated.fields() {
                fields.push(value);
                pairs.push((name, value.to_owned()));
            }
            fields.extend(["", "", ""]);
            &delegated.key
        }
    };
    // Address, protocol, version, kind, snapshot, scope of encryption, and five headers of the answer.
    fields.extend(["", "", VERSION, "b", "", "", "", "", "", "", ""]);
    pairs.push(("sig", key.sign(&fields.join("\n"))));
    pairs
}

/// Returns a time as Azure writes it, in whole seconds.
pub(super) fn time(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or_default().to_zoned(TimeZone::UTC);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_of_a_request_is_that_of_the_documentation() {
        // The example of "Authorize with Shared Key".
        let mut headers = HeaderMap::new();
        let mut set =
            |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
        set(DATE_HEADER, "Fri, 26 Jun 2015 23:39:12 GMT");
        set(VERSION_HEADER, "2015-02-21");
        set(CONTENT_LENGTH, "0");
        let url =
            "https://myaccount.blob.core.windows.net/mycontainer?comp=metadata&Restype=container&timeout=20";
        let text = request_text(&Method::GET, &url.parse().unwrap(), &headers, "myaccount");
        assert_eq!(
            text,
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
    }

    #[test]
    fn a_url_has_an_end_and_no_begin() {
        let key = SigningKey::of_base64("a2V5").unwrap();
        let until = SystemTime::UNIX_EPOCH + Duration::from_hours(24);
        let pairs = shared_access("a/c/x y", until, UrlKey::Shared(&key));
        let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["sv", "sp", "se", "sr", "sig"]);
        assert_eq!(pairs[2].1, "1970-01-02T00:00:00Z");
        assert_eq!(format!("{key:?}"), "***");
    }
}
