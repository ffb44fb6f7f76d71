//! The interface of Azure Blob Storage.
//!
//! Each call is one request, but for a copy, whose end is waited for, and the first of a day, before which the key that
//! signs URLs is asked for where the credentials are a token. Of `object_store` come the chains of credentials.
//!
//! Parts are blocks: all uploads to one name share the pool of its blocks, which is why the name of an upload is part of
//! the names of its blocks, and the end of one upload drops the blocks of the others.

mod answers;
mod blocks;
mod delegation;
mod lists;
mod options;
mod sign;

use std::ops::Range;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method};
use object_store::azure::AzureCredential;
use percent_encoding::utf8_percent_encode;
use quinistry_oci::Digest;
use reqwest::Url;

use self::delegation::Delegation;
use self::sign::{SigningKey, UrlKey, authorize, shared_access};
use crate::credentials::Credentials;
use crate::objects::remove_each;
use crate::transport::{
    Answer, PATH, QUERY, Request, Transport, What, etag, insert, metadata, no_credential,
};
use crate::{
    BucketSettings, Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind,
    ObjectMeta, Objects, Part, Payload, PendingUpload, Put, RemovalFence, RequestFuture, SignedMethod,
    StoreTime,
};

const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");
const COPY_SOURCE: HeaderName = HeaderName::from_static("x-ms-copy-source");
const COPY_STATUS: HeaderName = HeaderName::from_static("x-ms-copy-status");
const HAS_FOLDERS: HeaderName = HeaderName::from_static("x-ms-is-hns-enabled");

/// Pause between two questions about a copy that goes on.
const COPY_PAUSE: Duration = Duration::from_millis(200);

/// A container of Azure Blob Storage.
#[derive(Debug)]
pub struct Azure {
    transport: Transport,
    credentials: Credentials<AzureCredential>,
    /// Shared key of the account, if the credentials are that.
    key: Option<SigningKey>,
    /// Key by which an identity signs URLs.
    delegation: Delegation,
    account: String,
    container: String,
    /// URL of the account, with a slash at its end.
    account_url: Url,
    /// URL of the container, with a slash at its end.
    url: Url,
    /// Beginning of all keys: empty, or with a slash at its end.
    root: String,
}

// === impl Azure ===

impl Azure {
    /// Returns a request for a key.
    fn request(&self, method: Method, key: &str, query: &[(&str, &str)]) -> Request {
        let path = utf8_percent_encode(&format!("{}{key}", self.root), PATH).to_string();
        self.request_for(method, &path, query)
    }

    /// Returns a request for an encoded path beneath the container.
    fn request_for(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Request {
        let mut url = self.url.clone();
        url.set_path(format!("{}{path}", url.path()).trim_end_matches('/'));
        let encode = |text| utf8_percent_encode(text, QUERY).to_string();
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        url.set_query((!pairs.is_empty()).then(|| pairs.join("&")).as_deref());
        Request { method, url, headers: HeaderMap::new(), body: Payload::default() }
    }

    /// Creates the container.
    #[cfg(test)]
    pub(crate) async fn create_container(&self) -> Result<(), ObjectError> {
        let what = What("CREATE CONTAINER", "");
        let request = self.request_for(Method::PUT, "", &[("restype", "container")]);
        self.send(request, what).await?.drain(what).await.map(drop)
    }

    /// Sends a request; again, if the store says that the credentials have expired, and there are others.
    async fn send(&self, request: Request, what: What<'_>) -> Result<Answer, ObjectError> {
        let used = self.credentials.get().await.map_err(no_credential)?;
        self.renew_delegation(&used).await;
        match self.send_once(request.clone(), &used, what).await {
            Err(error) if error.kind == ObjectErrorKind::Expired => {
                if !self.credentials.replace(&used).await.map_err(no_credential)? {
                    return Err(error);
                }
                let other = self.credentials.get().await.map_err(no_credential)?;
                self.send_once(request, &other, what).await
            }
            answered => answered,
        }
    }

    /// Signs and sends a request.
    async fn send_once(
        &self,
        mut request: Request,
        credential: &AzureCredential,
        what: What<'_>,
    ) -> Result<Answer, ObjectError> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            request.headers.insert(CONTENT_LENGTH, request.body.length().into());
        }
        let now = self.transport.clock().to_sign();
        authorize(&mut request, &self.account, (credential, self.key.as_ref()), now);
        self.transport.send(request, what).await
    }

    fn add_condition(headers: &mut HeaderMap, condition: Condition<'_>) {
        match condition {
            Condition::Always => {}
            Condition::Absent => insert(headers, IF_NONE_MATCH, "*"),
            Condition::Version(version) => insert(headers, IF_MATCH, &format!("\"{version}\"")),
        }
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
            insert(&mut request.headers, IF_NONE_MATCH, &format!("\"{version}\""));
        }
        let answer = self.send(request, what).await?;
        let (meta, found) = metadata(&answer.headers, &ETAG, what)?;
        Ok(Object { meta, range: found, body: answer.stream(what) })
    }

    async fn look_up(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let what = What("HEAD", key);
        let answer = self.send(self.request(Method::HEAD, key, &[]), what).await?;
        metadata(&answer.headers, &ETAG, what).map(|(meta, _)| meta)
    }

    async fn write(&self, key: &str, body: Payload, condition: Condition<'_>) -> Result<Put, ObjectError> {
        let what = What("PUT", key);
        let mut request = Request { body, ..self.request(Method::PUT, key, &[]) };
        request.headers.insert(BLOB_TYPE, HeaderValue::from_static("BlockBlob"));
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Self::add_condition(&mut request.headers, condition);
        let headers = self.send(request, what).await?.drain(what).await?;
        Ok(Put { version: version(&headers) })
    }

    async fn remove(&self, key: &str, condition: Condition<'_>) -> Result<(), ObjectError> {
        let what = What("DELETE", key);
        let mut request = self.request(Method::DELETE, key, &[]);
        Self::add_condition(&mut request.headers, condition);
        match self.send(request, what).await {
            Ok(answer) => answer.drain(what).await.map(drop),
            Err(error) if error.kind == ObjectErrorKind::NotFound && condition == Condition::Always => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes objects side by side. The interface for many at once is a request in MIME for each.
    async fn remove_many(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        Ok(remove_each(keys, |key| self.remove(key, Condition::Always)).await)
    }

    /// Copies an object, and waits until the copy is there.
    async fn copy_whole(&self, from: &str, to: &str) -> Result<Put, ObjectError> {
        let what = What("COPY", to);
        let mut request = self.request(Method::PUT, to, &[]);
        let source = self.request(Method::GET, from, &[]).url;
        insert(&mut request.headers, COPY_SOURCE, source.as_str());
        let mut headers = self.send(request, what).await?.drain(what).await?;
        loop {
            match headers.get(COPY_STATUS).and_then(|status| status.to_str().ok()) {
                Some("pending") => tokio::time::sleep(COPY_PAUSE).await,
                Some("success") | None => return Ok(Put { version: version(&headers) }),
                Some(_) => {
                    let message = format!("{what}: the store gave the copy up");
                    return Err(ObjectError::new(ObjectErrorKind::Unknown, message));
                }
            }
            headers = self.send(self.request(Method::HEAD, to, &[]), what).await?.headers;
        }
    }

    /// Returns a URL by which a blob is read. The right to read is that of GET and HEAD.
    fn signed_url(&self, key: &str, expiry: Duration) -> Option<String> {
        let until = self.transport.clock().to_sign() + expiry;
        let delegated = self.delegation.key(until);
        let signer = match (&self.key, &delegated) {
            (Some(key), _) => UrlKey::Shared(key),
            (None, Some(key)) => UrlKey::Delegated(key),
            (None, None) => return None,
        };
        let blob = format!("{}/{}/{}{key}", self.account, self.container, self.root);
        let pairs = shared_access(&blob, until, signer);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, &value[..])).collect();
        Some(self.request(Method::GET, key, &pairs).url.into())
    }

    /// Asks whether the account has a hierarchical namespace, in which folders are blobs, too. A refusal leaves it
    /// unknown: no right to ask is needed.
    async fn ask_settings(&self) -> BucketSettings {
        let what = What("GET ACCOUNT", "");
        let request = self.request_for(Method::GET, "", &[("restype", "account"), ("comp", "properties")]);
        let answer = self.send(request, what).await.ok();
        let value = answer.as_ref().and_then(|answer| answer.headers.get(HAS_FOLDERS)?.to_str().ok());
        let has_folders = value.map(|value| value.eq_ignore_ascii_case("true"));
        BucketSettings { has_folders, ..BucketSettings::default() }
    }
}

fn version(headers: &HeaderMap) -> Option<String> {
    headers.get(ETAG).and_then(|version| version.to_str().ok()).map(etag)
}

impl Objects for Azure {
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

    fn put_hashed<'a>(
        &'a self,
        key: &'a str,
        body: Payload,
        condition: Condition<'a>,
        _: Option<&'a Digest>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(self.write(key, body, condition))
    }

    fn removal_fence(&self) -> RemovalFence {
        RemovalFence::Version
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        condition: Condition<'a>,
        _: Option<StoreTime>,
    ) -> RequestFuture<'a, ()> {
        Box::pin(self.remove(key, condition))
    }

    fn delete_many<'a>(&'a self, keys: &'a [String]) -> RequestFuture<'a, Vec<(String, ObjectError)>> {
        Box::pin(self.remove_many(keys))
    }

    fn list<'a>(&'a self, query: ListingQuery<'a>) -> RequestFuture<'a, Listing> {
        Box::pin(self.list_blobs(query))
    }

    fn create_multipart<'a>(&'a self, _: &'a str) -> RequestFuture<'a, String> {
        Box::pin(std::future::ready(Ok(uuid::Uuid::new_v4().simple().to_string())))
    }

    fn put_part<'a>(&'a self, upload: Multipart<'a>, number: u32, body: Payload) -> RequestFuture<'a, Part> {
        Box::pin(self.put_block(upload, number, body))
    }

    fn copy_part<'a>(
        &'a self,
        upload: Multipart<'a>,
        number: u32,
        from: &'a str,
        range: Range<u64>,
    ) -> RequestFuture<'a, Part> {
        Box::pin(self.copy_block(upload, number, from, range))
    }

    fn complete<'a>(
        &'a self,
        upload: Multipart<'a>,
        parts: &'a [Part],
        condition: Condition<'a>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(self.put_block_list(upload, parts, condition))
    }

    /// Sends nothing: the store removes blocks a week after the last one.
    fn abort<'a>(&'a self, _: Multipart<'a>) -> RequestFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns none: an upload that has not ended needs no end.
    fn list_uploads<'a>(&'a self, _: &'a str) -> RequestFuture<'a, Vec<PendingUpload>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn copy<'a>(&'a self, from: &'a str, to: &'a str) -> RequestFuture<'a, Put> {
        Box::pin(self.copy_whole(from, to))
    }

    fn sign(&self, _: SignedMethod, key: &str, expiry: Duration) -> Option<String> {
        self.signed_url(key, expiry)
    }

    fn settings(&self) -> RequestFuture<'_, BucketSettings> {
        Box::pin(async { Ok(self.ask_settings().await) })
    }

    fn now(&self) -> Option<StoreTime> {
        self.transport.clock().now()
    }
}
