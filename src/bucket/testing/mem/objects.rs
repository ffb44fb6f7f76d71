//! Requests to a bucket in memory.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt as _};
use quinistry_oci::Digest;

use super::body::Body;
use super::{Mem, SIGNED_REQUEST_VALIDITY, Versions, refuse};
use crate::{
    Condition, Listing, ListingQuery, Multipart, Object, ObjectError, ObjectErrorKind, ObjectMeta, Objects,
    Part, Payload, PendingUpload, Put, RemovalFence, RequestFuture, SignedMethod, StoreTime,
};

/// Greatest number of keys in a page, and of removals in one request, on S3.
const MAX_KEYS: usize = 1_000;

impl Objects for Mem {
    fn get<'a>(
        &'a self,
        key: &'a str,
        range: Option<Range<u64>>,
        unless: Option<&'a str>,
    ) -> RequestFuture<'a, Object> {
        Box::pin(async move {
            self.answer(|state, _, _| {
                let stored = state.objects.get(key).ok_or_else(|| absent("get", key))?;
                if unless == Some(stored.meta.version.as_str()) {
                    return Err(refuse(ObjectErrorKind::Unchanged, "get", key, "304 Not Modified"));
                }
                let length = stored.meta.length;
                let range = match range {
                    None => 0..length,
                    Some(range) if range.start < range.end && range.start < length => {
                        range.start..range.end.min(length)
                    }
                    Some(_) => {
                        return Err(refuse(ObjectErrorKind::OutOfRange, "get", key, "416 InvalidRange"));
                    }
                };
                let chunks = stored.body.chunks(range.clone());
                let body = stream::iter(chunks.into_iter().map(Ok)).boxed();
                Ok(Object { meta: stored.meta.clone(), range, body })
            })
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> RequestFuture<'a, ObjectMeta> {
        Box::pin(async move {
            self.answer(|state, _, _| {
                let stored = state.objects.get(key).ok_or_else(|| absent("head", key))?;
                Ok(stored.meta.clone())
            })
        })
    }

    fn put_hashed<'a>(
        &'a self,
        key: &'a str,
        body: Payload,
        condition: Condition<'a>,
        sha256: Option<&'a Digest>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(async move {
            self.answer(|state, options, now| {
                if let Some(sha256) = sha256.filter(|_| options.verifies_sha256)
                    && Digest::sha256(&body.to_vec()) != *sha256
                {
                    return Err(refuse(ObjectErrorKind::Refused, "put", key, "400 BadDigest"));
                }
                state.check_write(options, "put", key, condition)?;
                let body = Body::new(&body);
                Ok(state.insert(options, key, body, None, now))
            })
        })
    }

    fn sends_sha256(&self) -> bool {
        true
    }

    fn removal_fence(&self) -> RemovalFence {
        match self.options.versions {
            Versions::Etags => RemovalFence::Expiry,
            Versions::Generations => RemovalFence::Version,
        }
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        condition: Condition<'a>,
        signed_at: Option<StoreTime>,
    ) -> RequestFuture<'a, ()> {
        Box::pin(async move {
            self.answer(|state, options, now| {
                let signed_at = signed_at.filter(|_| self.removal_fence() == RemovalFence::Expiry);
                if signed_at.is_some_and(|StoreTime(at)| at + SIGNED_REQUEST_VALIDITY < now) {
                    let reason = "403 AccessDenied: Request has expired";
                    return Err(refuse(ObjectErrorKind::Denied, "delete", key, reason));
                }
                state.check_removal(options, key, condition)?;
                state.remove(options, key, now);
                Ok(())
            })
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [String]) -> RequestFuture<'a, Vec<(String, ObjectError)>> {
        Box::pin(async move {
            self.answer(|state, options, now| {
                if keys.len() > MAX_KEYS {
                    let reason = "400 MalformedXML: more than 1,000 keys";
                    return Err(refuse(ObjectErrorKind::Refused, "delete", &keys[0], reason));
                }
                for key in keys {
                    state.remove(options, key, now);
                }
                Ok(Vec::new())
            })
        })
    }

    fn list<'a>(&'a self, query: ListingQuery<'a>) -> RequestFuture<'a, Listing> {
        Box::pin(async move {
            self.answer(|state, options, _| {
                let limit = query.limit.min(MAX_KEYS);
                let after = query.after.filter(|_| !options.ignores_start_after);
                let mut entries = state.list(options, query.prefix, after, limit + 1);
                let is_truncated = entries.len() > limit;
                entries.truncate(limit);
                Ok(Listing { entries, is_truncated })
            })
        })
    }

    fn create_multipart<'a>(&'a self, key: &'a str) -> RequestFuture<'a, String> {
        Box::pin(async move { self.answer(|state, _, now| Ok(state.begin_upload(key, now))) })
    }

    fn put_part<'a>(&'a self, upload: Multipart<'a>, number: u32, body: Payload) -> RequestFuture<'a, Part> {
        Box::pin(async move {
            self.answer(|state, options, _| {
                let length = body.length();
                let body = if length < options.forgets_parts_from {
                    Body::new(&body)
                } else {
                    Body::forgotten(length)
                };
                state.put_part(options, upload, number, body)
            })
        })
    }

    fn copy_part<'a>(
        &'a self,
        upload: Multipart<'a>,
        number: u32,
        from: &'a str,
        range: Range<u64>,
    ) -> RequestFuture<'a, Part> {
        Box::pin(async move {
            self.answer(|state, options, _| state.copy_part(options, upload, number, from, range))
        })
    }

    fn complete<'a>(
        &'a self,
        upload: Multipart<'a>,
        parts: &'a [Part],
        condition: Condition<'a>,
    ) -> RequestFuture<'a, Put> {
        Box::pin(async move {
            self.answer(|state, options, now| state.complete(options, upload, parts, condition, now))
        })
    }

    fn abort<'a>(&'a self, upload: Multipart<'a>) -> RequestFuture<'a, ()> {
        Box::pin(async move {
            self.answer(|state, _, _| {
                if state.upload("abort upload of", upload).is_ok() {
                    state.uploads.remove(upload.id);
                }
                Ok(())
            })
        })
    }

    fn list_uploads<'a>(&'a self, prefix: &'a str) -> RequestFuture<'a, Vec<PendingUpload>> {
        Box::pin(async move {
            self.answer(|state, _, _| {
                let found = state.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix));
                let mut found: Vec<_> = found
                    .map(|(id, upload)| PendingUpload {
                        key: upload.key.clone(),
                        id: id.clone(),
                        begun: upload.begun,
                    })
                    .collect();
                found.sort_by(|a, b| (&a.key, a.begun).cmp(&(&b.key, b.begun)));
                Ok(found)
            })
        })
    }

    fn copy<'a>(&'a self, from: &'a str, to: &'a str) -> RequestFuture<'a, Put> {
        Box::pin(async move {
            self.answer(|state, options, now| {
                let body = state.objects.get(from).ok_or_else(|| absent("copy", from))?.body.clone();
                Ok(state.insert(options, to, body, None, now))
            })
        })
    }

    fn sign(&self, method: SignedMethod, key: &str, expiry: Duration) -> Option<String> {
        let expires = (self.clock.now() + expiry).duration_since(UNIX_EPOCH).ok()?.as_secs();
        let method = match method {
            SignedMethod::Get => "get",
            SignedMethod::Head => "head",
        };
        self.options.signs.then(|| format!("mem://{key}?method={method}&expires={expires}"))
    }

    fn now(&self) -> Option<StoreTime> {
        self.has_answered.load(Ordering::Relaxed).then(|| StoreTime(self.clock.now()))
    }
}

impl Mem {
    /// Returns the parts of an upload, in the order of their numbers, for servers that have the request.
    pub fn list_parts(&self, upload: Multipart<'_>) -> Result<Vec<Part>, ObjectError> {
        self.answer(|state, _, _| {
            let parts = state.upload("list parts of", upload)?.parts.iter();
            let part = |(number, (tag, body)): (&u32, &(String, Body))| Part {
                number: *number,
                tag: tag.clone(),
                length: body.length(),
            };
            Ok(parts.map(part).collect())
        })
    }
}

fn absent(request: &str, key: &str) -> ObjectError {
    refuse(ObjectErrorKind::NotFound, request, key, "404 NoSuchKey")
}
