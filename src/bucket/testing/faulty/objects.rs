//! Requests to a bucket with faults.

use std::ops::Range;
use std::time::Duration;

use quinistry_oci::Digest;

use super::spoil::sent;
use super::{Faulty, RequestKind};
use crate::{
    Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectMeta, Objects, Part, Payload,
    PendingUpload, Put, RemovalFence, RequestFuture, SignedMethod, StoreTime,
};

impl<O: Objects> Objects for Faulty<O> {
    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        unless: Option<&'a str>,
    ) -> RequestFuture<'a, Object> {
        let request = sent(RequestKind::Get, key, Condition::Always);
        Box::pin(self.spoil_read(request, self.inner.get(key, range, unless)))
    }

    fn head<'a>(&'a self, key: &'a str) -> RequestFuture<'a, ObjectMeta> {
        let request = sent(RequestKind::Head, key, Condition::Always);
        Box::pin(self.spoil(request, self.inner.head(key)))
    }

    fn kept_sha256<'a>(&'a self, key: &'a str) -> RequestFuture<'a, Option<Digest>> {
        let request = sent(RequestKind::Head, key, Condition::Always);
        Box::pin(self.spoil(request, self.inner.kept_sha256(key)))
    }

    fn sends_sha256(&self) -> bool {
        self.inner.sends_sha256()
    }

    fn put_hashed<'a>(
        &'a self,
        key: &'a str,
        body: Payload,
        condition: Condition<'a>,
        sha256: Option<&'a Digest>,
    ) -> RequestFuture<'a, Put> {
        let request = sent(RequestKind::Put, key, condition);
        Box::pin(self.spoil(request, self.inner.put_hashed(key, body, condition, sha256)))
    }

    fn removal_fence(&self) -> RemovalFence {
        self.inner.removal_fence()
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        condition: Condition<'a>,
        signed_at: Option<StoreTime>,
    ) -> RequestFuture<'a, ()> {
        let request = sent(RequestKind::Delete, key, condition);
        Box::pin(self.spoil(request, self.inner.delete(key, condition, signed_at)))
    }

    fn delete_many<'a>(&'a self, keys: &'a [String]) -> RequestFuture<'a, Vec<(String, ObjectError)>> {
        let first = keys.first().map_or("", String::as_str);
        let request = sent(RequestKind::DeleteMany, first, Condition::Always);
        Box::pin(self.spoil(request, self.inner.delete_many(keys)))
    }

    fn list<'a>(&'a self, query: ListingQuery<'a>) -> RequestFuture<'a, Listing> {
        let request = sent(RequestKind::List, query.prefix, Condition::Always);
        Box::pin(self.spoil(request, self.inner.list(query)))
    }

    fn create_multipart<'a>(&'a self, key: &'a str) -> RequestFuture<'a, String> {
        let request = sent(RequestKind::CreateMultipart, key, Condition::Always);
        Box::pin(self.spoil(request, self.inner.create_multipart(key)))
    }

    fn put_part<'a>(&'a self, upload: Multipart<'a>, number: u32, body: Payload) -> RequestFuture<'a, Part> {
        let request = sent(RequestKind::PutPart, upload.key, Condition::Always);
        Box::pin(self.spoil(request, self.inner.put_part(upload, number, body)))
    }

    fn copy_part<'a>(
        &'a self,
        upload: Multipart<'a>,
        number: u32,
        from: &'a str,
        range: Range<u64>,
    ) -> RequestFuture<'a, Part> {
        let request = sent(RequestKind::CopyPart, upload.key, Condition::Always);
        Box::pin(self.spoil(request, self.inner.copy_part(upload, number, from, range)))
    }

    fn complete<'a>(
        &'a self,
        upload: Multipart<'a>,
        parts: &'a [Part],
        condition: Condition<'a>,
    ) -> RequestFuture<'a, Put> {
        let request = sent(RequestKind::Complete, upload.key, condition);
        Box::pin(self.spoil(request, self.inner.complete(upload, parts, condition)))
    }

    fn abort<'a>(&'a self, upload: Multipart<'a>) -> RequestFuture<'a, ()> {
        let request = sent(RequestKind::Abort, upload.key, Condition::Always);
        Box::pin(self.spoil(request, self.inner.abort(upload)))
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> RequestFuture<'a, Vec<PendingUpload>> {
        let request = sent(RequestKind::ListUploads, prefix, Condition::Always);
        Box::pin(self.spoil(request, self.inner.list_uploads(prefix)))
    }

    fn copy<'a>(&'a self, from: &'a str, to: &'a str) -> RequestFuture<'a, Put> {
        let request = sent(RequestKind::Copy, to, Condition::Always);
        Box::pin(self.spoil(request, self.inner.copy(from, to)))
    }

    fn sign(&self, method: SignedMethod, key: &str, expiry: Duration) -> Option<String> {
        self.inner.sign(method, key, expiry)
    }

    fn now(&self) -> Option<StoreTime> {
        self.inner.now()
    }
}
