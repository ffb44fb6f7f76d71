//! Lists of objects and of uploads.

use http::Method;

use super::S3;
use super::answers::{ObjectsPage, UploadsPage};
use crate::transport::What;
use crate::xml::parse;
use crate::{Listing, ListingQuery, ObjectError, ObjectErrorKind, PendingUpload};

impl S3 {
    /// Returns a page of keys. Some stores send pages without a key before the last one: these are passed over.
    pub(super) async fn list_objects(&self, query: ListingQuery<'_>) -> Result<Listing, ObjectError> {
        let what = What("LIST", query.prefix);
        let (prefix, limit) =
            (format!("{}{}", self.root, query.prefix), query.limit.clamp(1, 1000).to_string());
        let after = query.after.map(|after| format!("{}{after}", self.root));
        let mut token: Option<String> = None;
        loop {
            let mut pairs = vec![
                ("list-type", "2"),
                ("prefix", &prefix[..]),
                ("max-keys", &limit[..]),
                ("encoding-type", "url"),
            ];
            let begin = (token.as_deref().map(|token| ("continuation-token", token)))
                .or(after.as_deref().map(|after| ("start-after", after)));
            pairs.extend(begin);
            let answer = self.send(self.bucket_request(Method::GET, &pairs), what).await?;
            let page: ObjectsPage = parse(&answer.bytes(what).await?, what)?;
            let entries = page.contents.iter().filter_map(|object| {
                let key = page.encoding.decode(&object.key);
                Some((key.strip_prefix(&self.root)?.to_owned(), object.meta()))
            });
            let entries: Vec<_> = entries.collect();
            let is_truncated = page.is_truncated;
            if !entries.is_empty() || !is_truncated {
                return Ok(Listing { entries, is_truncated });
            }
            let next = page.next_continuation_token.filter(|next| token.as_ref() != Some(next));
            let stuck = || {
                let reason =
                    "the store answered with an empty page that is not the last and names no next one";
                ObjectError::new(ObjectErrorKind::Unknown, format!("{what}: {reason}"))
            };
            token = Some(next.ok_or_else(stuck)?);
        }
    }

    /// Returns all uploads beneath a prefix, by one request for each thousand.
    pub(super) async fn list_begun_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>, ObjectError> {
        let what = What("LIST UPLOADS", prefix);
        let prefix = format!("{}{prefix}", self.root);
        let mut uploads = Vec::new();
        let mut after: Option<(String, Option<String>)> = None;
        loop {
            let mut pairs = vec![("uploads", ""), ("prefix", &prefix[..]), ("encoding-type", "url")];
            if let Some((key, id)) = &after {
                pairs.push(("key-marker", &key[..]));
                pairs.extend(id.as_deref().map(|id| ("upload-id-marker", id)));
            }
            let answer = self.send(self.bucket_request(Method::GET, &pairs), what).await?;
            let page: UploadsPage = parse(&answer.bytes(what).await?, what)?;
            let next_key = page.next_key_marker.map(|key| page.encoding.decode(&key));
            let next = next_key.map(|key| (key, page.next_upload_id_marker));
            let is_last = !page.is_truncated || next.is_none() || next == after;
            let encoding = page.encoding;
            uploads
                .extend(page.uploads.into_iter().filter_map(|upload| upload.beneath(&self.root, &encoding)));
            if is_last {
                return Ok(uploads);
            }
            after = next;
        }
    }
}
