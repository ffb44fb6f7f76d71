//! Removal of objects.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use quinistry_store::FENCE_LIFETIME;

use super::answers::Removals;
use super::dialect::insert;
use super::sign::Signer;
use super::{S3, as_precondition};
use crate::objects::remove_each;
use crate::transport::What;
use crate::xml::{element, parse};
use crate::{Condition, ObjectError, ObjectErrorKind, StoreTime};

const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-sdk-checksum-algorithm");

impl S3 {
    /// Removes an object. Where fenced removals expire, their request is signed in its query, whose expiry the store
    /// checks; a signature in the headers is valid for 15 minutes.
    pub(super) async fn remove(
        &self,
        key: &str,
        condition: Condition<'_>,
        signed_at: Option<StoreTime>,
    ) -> Result<(), ObjectError> {
        let what = What("DELETE", key);
        let mut request = self.request(Method::DELETE, key, &[]);
        self.dialect.add_condition(&mut request.headers, condition);
        let sent = match (signed_at, self.dialect.signing().await) {
            (Some(StoreTime(now)), Some(signing)) => {
                let (region, credential) = signing?;
                let signer = Signer { credential: &credential, region, now };
                signer.sign_url(&request.method, &mut request.url, &[], FENCE_LIFETIME);
                self.transport.send(request, what).await
            }
            _ => self.send(request, what).await,
        };
        match sent {
            Ok(answer) => answer.drain(what).await.map(drop),
            Err(error) if error.kind == ObjectErrorKind::NotFound && condition == Condition::Always => Ok(()),
            Err(error) => Err(as_precondition(error, condition)),
        }
    }

    /// Removes at most a thousand objects, by one request where the store has one for it.
    pub(super) async fn remove_many(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        let (what, mut failed) = (What("DELETE MANY", keys.first().map_or("", String::as_str)), Vec::new());
        if !self.dialect.is_amazon() {
            return Ok(remove_each(keys, |key| self.remove(key, Condition::Always, None)).await);
        }
        let mut body =
            String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
        for key in keys {
            let key = element("Key", &format!("{}{key}", self.root));
            body.push_str(&element_of("Object", &key));
        }
        body.push_str("</Delete>");
        let mut request = self.bucket_request(Method::POST, &[("delete", "")]);
        let hash = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        insert(&mut request.headers, CHECKSUM, &BASE64_STANDARD.encode(hash));
        insert(&mut request.headers, CHECKSUM_ALGORITHM, "SHA256");
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        request.body = body.into();
        let removals: Removals = parse(&self.send(request, what).await?.bytes(what).await?, what)?;
        for error in removals.errors {
            let Some(key) = error.key.strip_prefix(&self.root) else { continue };
            let kind = match &error.code[..] {
                "NoSuchKey" => continue,
                "SlowDown" => ObjectErrorKind::Throttled,
                "InternalError" | "ServiceUnavailable" => ObjectErrorKind::Unknown,
                "AccessDenied" => ObjectErrorKind::Denied,
                _ => ObjectErrorKind::Refused,
            };
            let code = quinistry_oci::escape::Escaped(&error.code);
            failed.push((key.to_owned(), ObjectError::new(kind, format!("{}: {code}", What("DELETE", key)))));
        }
        Ok(failed)
    }
}

fn element_of(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}
