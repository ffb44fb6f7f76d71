//! Uploads in parts.

use std::fmt::Write as _;
use std::ops::Range;

use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, Method};

use super::S3;
use super::answers::{NewUpload, Written};
use super::dialect::insert;
use crate::transport::{Request, What, etag};
use crate::xml::{element, parse};
use crate::{Condition, Multipart, ObjectError, ObjectErrorKind, Part, Payload, Put};

const COPY_SOURCE_RANGE: http::HeaderName = http::HeaderName::from_static("x-amz-copy-source-range");

impl S3 {
    pub(super) async fn begin_upload(&self, key: &str) -> Result<String, ObjectError> {
        let what = What("CREATE UPLOAD", key);
        let mut request = self.request(Method::POST, key, &[("uploads", "")]);
        request.headers = self.new_object.clone();
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let answer = self.send(request, what).await?;
        let upload: NewUpload = parse(&answer.bytes(what).await?, what)?;
        Ok(upload.upload_id)
    }

    pub(super) async fn send_part(
        &self,
        upload: Multipart<'_>,
        number: u32,
        body: Payload,
    ) -> Result<Part, ObjectError> {
        let what = What("PUT PART", upload.key);
        let length = body.length();
        let request = Request { body, ..self.part_request(upload, number) };
        let headers = self.send(request, what).await?.drain(what).await?;
        let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(etag);
        let tag = tag.ok_or_else(|| no_etag(what))?;
        Ok(Part { number, tag, length })
    }

    /// Copies a range into a part. Google's interface has no such request.
    pub(super) async fn send_copied_part(
        &self,
        upload: Multipart<'_>,
        number: u32,
        from: &str,
        range: Range<u64>,
    ) -> Result<Part, ObjectError> {
        let what = What("COPY PART", upload.key);
        if !self.dialect.is_amazon() {
            return Err(ObjectError::new(
                ObjectErrorKind::Refused,
                format!("{what}: not supported by this store"),
            ));
        }
        let mut request = self.part_request(upload, number);
        insert(&mut request.headers, self.dialect.copy_source(), &self.copy_source(from));
        let length = range.end.saturating_sub(range.start);
        let last = range.end.saturating_sub(1);
        insert(&mut request.headers, COPY_SOURCE_RANGE, &format!("bytes={}-{last}", range.start));
        let written: Written = parse(&self.send(request, what).await?.bytes(what).await?, what)?;
        let tag = written.e_tag.as_deref().map(etag).ok_or_else(|| no_etag(what))?;
        Ok(Part { number, tag, length })
    }

    pub(super) async fn complete_upload(
        &self,
        upload: Multipart<'_>,
        parts: &[Part],
        condition: Condition<'_>,
    ) -> Result<Put, ObjectError> {
        let what = What("COMPLETE UPLOAD", upload.key);
        let mut body =
            String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for part in parts {
            let (number, tag) = (part.number, element("ETag", &format!("\"{}\"", part.tag)));
            let _ = write!(body, "<Part><PartNumber>{number}</PartNumber>{tag}</Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut request = self.request(Method::POST, upload.key, &[("uploadId", upload.id)]);
        request.body = body.into();
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        self.dialect.add_condition(&mut request.headers, condition);
        let answer = self.send(request, what).await?;
        let version = self.version(&answer.headers);
        let written: Written = parse(&answer.bytes(what).await?, what)?;
        Ok(Put {
            version: written.e_tag.as_deref().map(etag).filter(|_| self.dialect.is_amazon()).or(version),
        })
    }

    pub(super) async fn abort_upload(&self, upload: Multipart<'_>) -> Result<(), ObjectError> {
        let what = What("ABORT UPLOAD", upload.key);
        let request = self.request(Method::DELETE, upload.key, &[("uploadId", upload.id)]);
        match self.send(request, what).await {
            Ok(answer) => answer.drain(what).await.map(drop),
            Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn part_request(&self, upload: Multipart<'_>, number: u32) -> Request {
        let number = number.to_string();
        self.request(Method::PUT, upload.key, &[("partNumber", &number[..]), ("uploadId", upload.id)])
    }
}

fn no_etag(what: What<'_>) -> ObjectError {
    ObjectError::new(ObjectErrorKind::Unknown, format!("{what}: the answer has no ETag"))
}
