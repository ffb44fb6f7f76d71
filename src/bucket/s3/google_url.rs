//! Signed URLs of Google Cloud Storage, by the key of a service account ("V4 signing process"). Pure.
//!
//! The signer of `object_store` takes the time of this machine, and no name with an empty component.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, Method};
use quinistry_oci::Digest;
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;

use super::sign::{Canonical, UNSIGNED_PAYLOAD, canonical_query, times};
use crate::Secret;

const ALGORITHM: &str = "GOOG4-RSA-SHA256";

/// Key of a service account.
pub(super) struct ServiceAccountKey {
    email: String,
    key: RsaKeyPair,
}

/// File with the key.
#[derive(Deserialize)]
struct KeyFile {
    client_email: String,
    private_key: String,
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccountKey").field("email", &self.email).finish_non_exhaustive()
    }
}

// === impl ServiceAccountKey ===

impl ServiceAccountKey {
    /// Reads a file; `None` if it has no valid key, with which no token is given, either.
    pub(super) fn of_json(json: &Secret) -> Option<Self> {
        let KeyFile { client_email: email, private_key: pem } = serde_json::from_str(json.expose()).ok()?;
        let lines: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(lines).ok()?;
        let key = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der)).ok()?;
        Some(Self { email, key })
    }

    /// Signs a URL in its query, so that its holder may send the request until it expires. `None` if the system has
    /// no random bytes, which protect the key while it signs.
    pub(super) fn sign_url(
        &self,
        method: &Method,
        url: &mut Url,
        (now, expiry): (SystemTime, Duration),
    ) -> Option<()> {
        let (day, second) = times(now);
        let scope = format!("{day}/auto/storage/goog4_request");
        let (credential, expiry) = (format!("{}/{scope}", self.email), expiry.as_secs().to_string());
        let query = canonical_query(&[
            ("X-Goog-Algorithm", ALGORITHM),
            ("X-Goog-Credential", &credential),
            ("X-Goog-Date", &second),
            ("X-Goog-Expires", &expiry),
            ("X-Goog-SignedHeaders", "host"),
        ]);
        let canonical = Canonical { method, url, query: &query, headers: &HeaderMap::new() };
        let hash = Digest::sha256(canonical.text(UNSIGNED_PAYLOAD).0.as_bytes());
        let text = format!("{ALGORITHM}\n{second}\n{scope}\n{}", hash.hex());
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        let signature = signature.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        url.set_query(Some(&format!("{query}&X-Goog-Signature={signature}")));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use futures_util::FutureExt as _;
    use jiff::civil::DateTime;
    use jiff::tz::TimeZone;
    use object_store::gcp::GoogleCloudStorageBuilder;
    use object_store::signer::Signer as _;

    use super::*;

    #[test]
    fn a_url_is_that_of_another_program() {
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let Ok(made) = openssl.stderr(Stdio::null()).output() else {
            println!("skipped: this test needs openssl");
            return;
        };
        let pem = String::from_utf8(made.stdout).unwrap();
        let json = serde_json::json!({
            "type": "service_account", "client_email": "a@b.iam", "private_key_id": "k", "private_key": pem,
        });
        let key = ServiceAccountKey::of_json(&Secret::new(json.to_string())).unwrap();
        assert!(!format!("{key:?}").contains("BEGIN"));
        let builder = GoogleCloudStorageBuilder::new().with_bucket_name("bucket");
        let builder = builder.with_http_connector(crate::transport::Connector(crate::tests::client()));
        let other = builder.with_service_account_key(json.to_string()).build().unwrap();
        let expiry = Duration::from_mins(20);
        let expected =
            other.signed_url(Method::GET, &"a/b-c_d.e".into(), expiry).now_or_never().unwrap().unwrap();
        let (_, date) = expected.query_pairs().find(|(name, _)| name == "X-Goog-Date").unwrap();
        let date = DateTime::strptime("%Y%m%dT%H%M%SZ", &*date).unwrap().to_zoned(TimeZone::UTC).unwrap();
        let mut url: Url = "https://storage.googleapis.com/bucket/a/b-c_d.e".parse().unwrap();
        key.sign_url(&Method::GET, &mut url, (date.timestamp().into(), expiry)).unwrap();
        assert_eq!(url, expected);
    }
}
