//! Requests for objects and their parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use quinistry_bucket::{Condition, Multipart, ObjectError, Objects as _, Part};
use sha2::{Digest as _, Sha256};

use super::answer::{Answer, etag, of_error, xml_date};
use super::operation::{Operation, Wanted, condition, range};
use super::request::Request;
use super::xml::{self, escape};
use super::{BUCKET, Shape, Store};

impl Store {
    /// Carries out a request.
    pub(super) async fn perform(&self, operation: &Operation, request: &Request) -> Answer {
        self.try_perform(operation, request).await.unwrap_or_else(|error| of_error(&error))
    }

    async fn try_perform(&self, operation: &Operation, request: &Request) -> Result<Answer, ObjectError> {
        let key = request.key.as_str();
        let wanted = condition(request, self.shape);
        let condition = match &wanted {
            Wanted::Always => Condition::Always,
            Wanted::Absent => Condition::Absent,
            Wanted::Version(version) => Condition::Version(version),
        };
        let upload = Multipart { key, id: request.parameter("uploadId").unwrap_or("") };
        match operation {
            Operation::HeadBucket => Ok(Answer::empty(200)),
            Operation::Setting(setting) => Ok(self.settings.answer(setting)),
            Operation::List => self.list(request).await,
            Operation::ListUploads => self.list_uploads(request).await,
            Operation::ListParts => self.list_parts(request),
            Operation::DeleteMany => self.delete_many(request).await,
            Operation::Get => self.get(request).await,
            Operation::Head => {
                let meta = self.mem.head(key).await?;
                let answer = Answer { length: meta.length, ..Answer::empty(200) };
                Ok(answer.with_meta(self.shape, &meta).with("accept-ranges", "bytes"))
            }
            Operation::Put => {
                if let Some(refusal) = check_sum(request) {
                    return Ok(refusal);
                }
                let put = self.mem.put(key, request.body.clone().into(), condition).await?;
                Ok(Answer::empty(200).with_version(self.shape, &put.version.unwrap()))
            }
            Operation::Copy { from } => {
                let put = self.mem.copy(from, key).await?;
                let version = put.version.unwrap();
                Ok(self.copied("CopyObjectResult", &version).with_version(self.shape, &version))
            }
            Operation::Delete => {
                self.mem.delete(key, condition, None).await?;
                Ok(Answer::empty(204))
            }
            Operation::CreateMultipart => {
                let id = self.mem.create_multipart(key).await?;
                let (key, id) = (escape(key), escape(&id));
                let text = format!(
                    "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key>\
                     <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                );
                Ok(Answer::xml(200, &text))
            }
            Operation::PutPart { number } => {
                if let Some(refusal) = check_sum(request) {
                    return Ok(refusal);
                }
                let part = self.mem.put_part(upload, *number, request.body.clone().into()).await?;
                Ok(Answer::empty(200).with("etag", &part.tag))
            }
            Operation::CopyPart { number, from, range } => {
                let range = match range {
                    Some(range) => range.clone(),
                    None => 0..self.mem.head(from).await?.length,
                };
                let part = self.mem.copy_part(upload, *number, from, range).await?;
                Ok(self.copied("CopyPartResult", &part.tag))
            }
            Operation::Complete => {
                let parts = parts(&request.body);
                let put = self.mem.complete(upload, &parts, condition).await?;
                let version = put.version.unwrap();
                let tag = escape(&etag(self.shape, &version));
                let text = format!(
                    "<CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{}</Key><ETag>{tag}</ETag>\
                     </CompleteMultipartUploadResult>",
                    escape(key)
                );
                Ok(Answer::xml(200, &text).with_version(self.shape, &version))
            }
            Operation::Abort => {
                self.mem.abort(upload).await?;
                Ok(Answer::empty(204))
            }
        }
    }

    async fn get(&self, request: &Request) -> Result<Answer, ObjectError> {
        let wanted = request.header("range").and_then(range);
        let unless = request.header("if-none-match");
        let unless = match self.shape {
            Shape::S3 => unless,
            Shape::Gcs => unless.map(|tag| tag.trim_matches('"')),
        };
        let object = self.mem.get(&request.key, wanted.clone(), unless).await?;
        let length = object.range.end - object.range.start;
        let answer = Answer { length, ..Answer::empty(if wanted.is_some() { 206 } else { 200 }) };
        let mut answer = answer.with_meta(self.shape, &object.meta).with("accept-ranges", "bytes");
        if wanted.is_some() {
            let (first, last, whole) = (object.range.start, object.range.end - 1, object.meta.length);
            answer = answer.with("content-range", &format!("bytes {first}-{last}/{whole}"));
        }
        answer.body = object.body.try_collect().await?;
        Ok(answer)
    }

    /// Returns the document of a copy.
    fn copied(&self, element: &str, version: &str) -> Answer {
        let tag = if element == "CopyPartResult" { version.to_owned() } else { etag(self.shape, version) };
        let modified = xml_date(self.mem.clock().now());
        let tag = escape(&tag);
        let text =
            format!("<{element}><ETag>{tag}</ETag><LastModified>{modified}</LastModified></{element}>");
        Answer::xml(200, &text)
    }
}

/// Returns the parts that a completion names.
fn parts(body: &[u8]) -> Vec<Part> {
    let document = String::from_utf8_lossy(body);
    let part = |part: &&str| {
        let tag = xml::text(part, "ETag")?;
        let tag = format!("\"{}\"", tag.trim_matches('"'));
        Some(Part { number: xml::text(part, "PartNumber")?.parse().ok()?, tag, length: 0 })
    };
    xml::elements(&document, "Part").iter().filter_map(part).collect()
}

/// Returns the refusal of a body that has another SHA-256 than its header tells.
fn check_sum(request: &Request) -> Option<Answer> {
    let expected = request.header("x-amz-checksum-sha256")?;
    let is_right = STANDARD.encode(Sha256::digest(&request.body)) == expected;
    (!is_right).then(|| Answer::error(400, "BadDigest", "the SHA-256 does not match"))
}
