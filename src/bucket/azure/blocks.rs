//! Uploads in parts: blocks, and the list that makes a blob of them.

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method};
use object_store::azure::AzureCredential;

use super::{Azure, COPY_SOURCE, insert, no_credential, version};
use crate::transport::{Request, What};
use crate::xml::element;
use crate::{Condition, Multipart, ObjectError, ObjectErrorKind, Part, Payload, Put};

const SOURCE_RANGE: HeaderName = HeaderName::from_static("x-ms-source-range");
const SOURCE_AUTHORIZATION: HeaderName = HeaderName::from_static("x-ms-copy-source-authorization");
const BLOB_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-content-type");

/// Number of random hexadecimal digits in the name of a block: 48 bits, since few attempts send the same part.
const RANDOM_DIGITS: usize = 12;

/// Validity of the URL by which the store reads the source of a copy.
const SOURCE_EXPIRY: Duration = Duration::from_mins(10);

/// Returns the name of a new block: Base64 of the upload, the number and random digits, at most 64 bytes. All names of a
/// blob have one length. Each attempt to send a part makes a block of its own, so that the list of one writer never names
/// the bytes of another.
fn block_name(upload: &str, number: u32) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    BASE64_STANDARD.encode(format!("{upload}-{number:06}-{}", &random[..RANDOM_DIGITS]))
}

impl Azure {
    pub(super) async fn put_block(
        &self,
        upload: Multipart<'_>,
        number: u32,
        body: Payload,
    ) -> Result<Part, ObjectError> {
        let what = What("PUT PART", upload.key);
        let (tag, length) = (block_name(upload.id, number), body.length());
        let request = Request { body, ..self.block_request(upload, &tag) };
        self.send(request, what).await?.drain(what).await?;
        Ok(Part { number, tag, length })
    }

    /// Copies a range of a blob into a block. The store reads the source as a client would: by a signed URL, or with the
    /// token of the credentials.
    pub(super) async fn copy_block(
        &self,
        upload: Multipart<'_>,
        number: u32,
        from: &str,
        range: Range<u64>,
    ) -> Result<Part, ObjectError> {
        let what = What("COPY PART", upload.key);
        let (tag, length) = (block_name(upload.id, number), range.end.saturating_sub(range.start));
        let mut request = self.block_request(upload, &tag);
        let credential = self.credentials.get().await.map_err(no_credential)?;
        if let AzureCredential::BearerToken(token) = &*credential {
            insert(&mut request.headers, COPY_SOURCE, self.request(Method::GET, from, &[]).url.as_str());
            insert(&mut request.headers, SOURCE_AUTHORIZATION, &format!("Bearer {token}"));
        } else {
            let url = self.signed_url(from, SOURCE_EXPIRY).ok_or_else(|| {
                ObjectError::new(
                    ObjectErrorKind::Denied,
                    format!("{what}: the credentials cannot sign the source"),
                )
            })?;
            insert(&mut request.headers, COPY_SOURCE, &url);
        }
        let last = range.end.saturating_sub(1);
        insert(&mut request.headers, SOURCE_RANGE, &format!("bytes={}-{last}", range.start));
        self.send(request, what).await?.drain(what).await?;
        Ok(Part { number, tag, length })
    }

    /// Makes the blob of its blocks. Only blocks that are part of no blob yet are taken, so that an upload ends once, as
    /// on S3. Blocks that the end of this upload, or of another one, has taken or dropped are `InvalidBlockList`.
    pub(super) async fn put_block_list(
        &self,
        upload: Multipart<'_>,
        parts: &[Part],
        condition: Condition<'_>,
    ) -> Result<Put, ObjectError> {
        let what = What("COMPLETE UPLOAD", upload.key);
        let blocks: String = parts.iter().map(|part| element("Uncommitted", &part.tag)).collect();
        let mut request = self.request(Method::PUT, upload.key, &[("comp", "blocklist")]);
        request.body =
            format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>").into();
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        request.headers.insert(BLOB_CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Self::add_condition(&mut request.headers, condition);
        let headers = self.send(request, what).await?.drain(what).await?;
        Ok(Put { version: version(&headers) })
    }

    fn block_request(&self, upload: Multipart<'_>, tag: &str) -> Request {
        self.request(Method::PUT, upload.key, &[("comp", "block"), ("blockid", tag)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blocks_have_one_length_and_differ_by_upload() {
        let names = [1, 9, 50_000].map(|number| block_name("u", number));
        assert!(names.iter().all(|name| name.len() == names[0].len()));
        assert_ne!(block_name("u", 1), names[0], "each attempt has its own block");
        let upload = uuid::Uuid::new_v4().simple().to_string();
        assert!(BASE64_STANDARD.decode(block_name(&upload, 1)).unwrap().len() <= 64);
        assert_ne!(block_name("v", 50_000), names[2]);
    }
}
