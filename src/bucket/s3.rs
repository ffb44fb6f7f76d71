//! The XML interface of Amazon S3 and the stores that have the same, and of Google Cloud Storage.
//!
//! Each call is one request. Of `object_store` come the chains of credentials. The requests are made here, because
//! its client hides what the store says: 409 and 412 are one error, the `Date` and the versions of copies are
//! dropped, an object with an empty component in its key fails the whole list, and removals and the ends of uploads
//! have no condition.

mod answers;
mod dialect;
mod external_account;
mod google_url;
mod lists;
mod options;
mod parts;
mod removal;
mod settings;
mod sign;

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use quinistry_oci::Digest;
use reqwest::Url;

use self::answers::Written;
use self::dialect::{Dialect, Used, insert};
use self::sign::{Signer, encode_path, set_query};
use crate::transport::{Answer, Request, Transport, What, etag, metadata};
use crate::xml;
use crate::{
    BucketSettings, Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind,
    ObjectMeta, Objects, Part, Payload, PendingUpload, Put, RemovalFence, RequestFuture, SignedMethod,
    StoreTime,
};

pub use self::external_account::InvalidExternalAccount;

/// A bucket of Amazon S3, of a store with the same interface, or of Google Cloud Storage.
#[derive(Debug)]
pub struct S3 {
    transport: Transport,
    dialect: Dialect,
    /// Name of the bucket.
    bucket: String,
    /// URL of the bucket, with a slash at its end.
    url: Url,
    /// URL of the bucket in signed URLs, with a slash at its end.
    public_url: Url,
    /// Beginning of all keys: empty, or with a slash at its end.
    root: String,
    /// Headers of every new object: encryption, class and access control list.
    new_object: HeaderMap,
}

// === impl S3 ===

impl S3 {
    /// Returns a request for a key.
    fn request(&self, method: Method, key: &str, query: &[(&str, &str)]) -> Request {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{}", url.path(), encode_path(&format!("{}{key}", self.root))));
        set_query(&mut url, query);
        Request { method, url, headers: HeaderMap::new(), body: Payload::default() }
    }

    /// Returns a request for the bucket itself.
    fn bucket_request(&self, method: Method, query: &[(&str, &str)]) -> Request {
        let mut url = self.url.clone();
        set_query(&mut url, query);
        Request { method, url, headers: HeaderMap::new(), body: Payload::default() }
    }

    /// Sends a request; again, if the store says that the credentials have expired, and there are others.
    async fn send(&self, request: Request, what: What<'_>) -> Result<Answer, ObjectError> {
        let (used, answered) = self.send_once(request.clone(), what).await?;
        match answered {
            Err(error) if error.kind == ObjectErrorKind::Expired && self.dialect.replace(&used).await? => {
                self.send_once(request, what).await?.1
            }
            answered => answered,
        }
    }

    /// Signs and sends a request. Returns the answer with the credentials that were used.
    async fn send_once(
        &self,
        mut request: Request,
        what: What<'_>,
    ) -> Result<(Used, Result<Answer, ObjectError>), ObjectError> {
        let used = self.dialect.authorize(&mut request, self.transport.clock().to_sign()).await?;
        Ok((used, self.transport.send(request, what).await))
    }

    /// Returns the header that names an object as the source of a copy.
    fn copy_source(&self, key: &str) -> String {
        encode_path(&format!("/{}/{}{key}", self.bucket, self.root))
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        unless: Option<&str>,
    ) -> Result<Object, ObjectError> {
        let what = What("GET", key);
        let mut request = self.request(Method::GET, key, &[]);
        if let Some(range) = &range {
            if range.is_empty() {
                return Err(ObjectError::new(
                    ObjectErrorKind::OutOfRange,
                    format!("{what}: the range is empty"),
                ));
            }
            insert(&mut request.headers, RANGE, &format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(version) = unless {
            self.dialect.add_unless(&mut request.headers, version);
        }
        let answer = self.send(request, what).await?;
        let (meta, found) = metadata(&answer.headers, &self.dialect.version_header(), what)?;
        if let Some(range) = range
            && (found.start != range.start || found.end != range.end.min(meta.length))
        {
            let message = format!("{what}: the store answered with bytes {found:?} in place of {range:?}");
            return Err(ObjectError::new(ObjectErrorKind::Refused, message));
        }
        Ok(Object { meta, range: found, body: answer.stream(what) })
    }

    async fn look_up(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let what = What("HEAD", key);
        let answer = self.send(self.request(Method::HEAD, key, &[]), what).await?;
        metadata(&answer.headers, &self.dialect.version_header(), what).map(|(meta, _)| meta)
    }

    async fn look_up_sha256(&self, key: &str) -> Result<Option<Digest>, ObjectError> {
        if !self.dialect.is_amazon() {
            return Ok(None);
        }
        let mut request = self.request(Method::HEAD, key, &[]);
        request.headers.insert(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"));
        Ok(full_sha256(&self.send(request, What("HEAD", key)).await?.headers))
    }

    async fn write(
        &self,
        key: &str,
        body: Payload,
        condition: Condition<'_>,
        sha256: Option<&Digest>,
    ) -> Result<Put, ObjectError> {
        let what = What("PUT", key);
        let mut request = Request { body, ..self.request(Method::PUT, key, &[]) };
        request.headers = self.new_object.clone();
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(sha256) = sha256.filter(|_| self.dialect.is_amazon()) {
            insert(&mut request.headers, CHECKSUM, &checksum(sha256));
        }
        self.dialect.add_condition(&mut request.headers, condition);
        let headers = self
            .send(request, what)
            .await
            .map_err(|error| as_precondition(error, condition))?
            .drain(what)
            .await?;
        Ok(Put { version: self.version(&headers) })
    }

    async fn copy_whole(&self, from: &str, to: &str) -> Result<Put, ObjectError> {
        let what = What("COPY", to);
        let mut request = self.request(Method::PUT, to, &[]);
        request.headers = self.new_object.clone();
        insert(&mut request.headers, self.dialect.copy_source(), &self.copy_source(from));
        let answer = self.send(request, what).await?;
        let version = self.version(&answer.headers);
        let written: Written = xml::parse(&answer.bytes(what).await?, what)?;
        Ok(Put { version: version.or_else(|| written.e_tag.as_deref().map(etag)) })
    }

    /// Returns the version of an object that was written.
    fn version(&self, headers: &HeaderMap) -> Option<String> {
        headers.get(self.dialect.version_header()).and_then(|version| version.to_str().ok()).map(etag)
    }

    fn signed_url(&self, method: SignedMethod, key: &str, expiry: Duration) -> Option<String> {
        let method = match method {
            SignedMethod::Get => Method::GET,
            SignedMethod::Head => Method::HEAD,
        };
        let mut url = self.public_url.clone();
        url.set_path(&format!("{}{}", url.path(), encode_path(&format!("{}{key}", self.root))));
        let now = step(self.transport.clock().to_sign());
        let expiry = (expiry + URL_STEP).min(MAX_EXPIRY);
        if let Dialect::Google { url_key, .. } = &self.dialect {
            url_key.as_ref()?.sign_url(&method, &mut url, (now, expiry))?;
            return Some(url.into());
        }
        // Credentials that must be fetched first are there after the next request.
        let (region, credential) = self.dialect.signing().now_or_never()??.ok()?;
        Signer { credential: &credential, region, now }.sign_url(&method, &mut url, &[], expiry);
        Some(url.into())
    }
}

/// Steps of the time at which URLs are signed, so that clients and caches see the same URL for a while.
const URL_STEP: Duration = Duration::from_mins(5);

/// Header with the SHA-256 of a body, which Amazon S3 verifies ("Checking object integrity").
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");

/// Returns the value of [`CHECKSUM`].
fn checksum(sha256: &Digest) -> String {
    let byte = |pair: &[u8]| {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        Some((digit(pair[0])? << 4) | digit(pair[1])?)
    };
    let bytes: Option<Vec<u8>> = sha256.hex().as_bytes().chunks_exact(2).map(byte).collect();
    BASE64_STANDARD.encode(bytes.expect("the text of a digest is hexadecimal"))
}

/// Header that asks for the checksums of an object.
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");

/// Header that tells whether a checksum is that of all bytes, or of the checksums of parts.
const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

/// Returns the SHA-256 of all bytes of an object. That of an object in parts is a hash of hashes, which a store tells by
/// its type, or by the number of parts behind it.
fn full_sha256(headers: &HeaderMap) -> Option<Digest> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(CHECKSUM_TYPE).is_some_and(|kind| kind != "FULL_OBJECT") {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(text(CHECKSUM)?).ok()?;
    let mut digest = String::from("sha256:");
    bytes.iter().try_for_each(|byte| write!(digest, "{byte:02x}")).expect("a string can be written to");
    digest.parse().ok()
}

/// Longest validity of a signed URL that stores accept (AWS, "Authenticating Requests: Using Query Parameters").
const MAX_EXPIRY: Duration = Duration::from_hours(7 * 24);

/// Returns the begin of the step of a time.
fn step(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs() / URL_STEP.as_secs() * URL_STEP.as_secs())
}

/// Returns the error of a change whose object is absent: S3 then says that nothing was found, in place of saying that
/// the condition does not hold.
fn as_precondition(mut error: ObjectError, condition: Condition<'_>) -> ObjectError {
    if error.kind == ObjectErrorKind::NotFound && matches!(condition, Condition::Version(_)) {
        error.kind = ObjectErrorKind::Precondition;
    }
    error
}

impl Objects for S3 {
    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        unless: Option<&'a str>,
    ) -> RequestFuture<'a, Object> {
        Box::pin(self.read(key, range, unless))
    }

    fn head<'a>(&'a self, key: &'a str) -> RequestFuture<'a, ObjectMeta> {
        Box::pin(self.look_up(key))
    }

    fn kept_sha256<'a>(&'a self, key: &'a str) -> RequestFuture<'a, Option<Digest>> {
        Box::pin(self.look_up_sha256(key))
    }

    fn sends_sha256(&self) -> bool {
        self.dialect.is_amazon()
    }

    fn put_hashed<'a>(
        &'a self,
        key: &'a str,
        body: Payload,
        condition: Condition<'a>,
        sha256: Option<&'a Digest>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(self.write(key, body, condition, sha256))
    }

    fn removal_fence(&self) -> RemovalFence {
        if self.dialect.is_amazon() { RemovalFence::Expiry } else { RemovalFence::Version }
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        condition: Condition<'a>,
        signed_at: Option<StoreTime>,
    ) -> RequestFuture<'a, ()> {
        Box::pin(self.remove(key, condition, signed_at))
    }

    fn delete_many<'a>(&'a self, keys: &'a [String]) -> RequestFuture<'a, Vec<(String, ObjectError)>> {
        Box::pin(self.remove_many(keys))
    }

    fn list<'a>(&'a self, query: ListingQuery<'a>) -> RequestFuture<'a, Listing> {
        Box::pin(self.list_objects(query))
    }

    fn create_multipart<'a>(&'a self, key: &'a str) -> RequestFuture<'a, String> {
        Box::pin(self.begin_upload(key))
    }

    fn put_part<'a>(&'a self, upload: Multipart<'a>, number: u32, body: Payload) -> RequestFuture<'a, Part> {
        Box::pin(self.send_part(upload, number, body))
    }

    fn copy_part<'a>(
        &'a self,
        upload: Multipart<'a>,
        number: u32,
        from: &'a str,
        range: Range<u64>,
    ) -> RequestFuture<'a, Part> {
        Box::pin(self.send_copied_part(upload, number, from, range))
    }

    fn complete<'a>(
        &'a self,
        upload: Multipart<'a>,
        parts: &'a [Part],
        condition: Condition<'a>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(self.complete_upload(upload, parts, condition))
    }

    fn abort<'a>(&'a self, upload: Multipart<'a>) -> RequestFuture<'a, ()> {
        Box::pin(self.abort_upload(upload))
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> RequestFuture<'a, Vec<PendingUpload>> {
        Box::pin(self.list_begun_uploads(prefix))
    }

    fn copy<'a>(&'a self, from: &'a str, to: &'a str) -> RequestFuture<'a, Put> {
        Box::pin(self.copy_whole(from, to))
    }

    fn sign(&self, method: SignedMethod, key: &str, expiry: Duration) -> Option<String> {
        self.signed_url(method, key, expiry)
    }

    fn settings(&self) -> RequestFuture<'_, BucketSettings> {
        Box::pin(async { Ok(self.ask_settings().await) })
    }

    fn now(&self) -> Option<StoreTime> {
        self.transport.clock().now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_hash_in_base64() {
        // Of no bytes, as `openssl dgst -sha256 -binary /dev/null | base64` prints it.
        assert_eq!(checksum(&Digest::sha256(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn a_checksum_of_all_bytes_is_their_hash_and_one_of_parts_is_none() {
        let digest = Digest::sha256(b"bytes");
        let (whole, of_parts) = (checksum(&digest), format!("{}-2", checksum(&digest)));
        for (value, kind, expected) in [
            (Some(&whole), Some("FULL_OBJECT"), Some(&digest)),
            (Some(&whole), None, Some(&digest)),
            (Some(&whole), Some("COMPOSITE"), None),
            (Some(&of_parts), None, None),
            (None, Some("FULL_OBJECT"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (CHECKSUM, value.parse().unwrap())));
            headers.extend(kind.map(|kind| (CHECKSUM_TYPE, kind.parse().unwrap())));
            assert_eq!(full_sha256(&headers).as_ref(), expected, "{value:?} {kind:?}");
        }
    }

    #[test]
    fn urls_are_signed_alike_for_five_minutes() {
        let at = |seconds| step(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(300), at(599));
        assert_ne!(at(599), at(600));
        assert_eq!(at(600), SystemTime::UNIX_EPOCH + Duration::from_mins(10));
    }
}
