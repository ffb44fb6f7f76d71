//! Uploads in parts of a bucket in memory.

use std::ops::Range;
use std::time::SystemTime;

use super::body::{Body, etag};
use super::state::{State, Upload};
use super::{MemOptions, refuse};
use crate::{Condition, Multipart, ObjectError, ObjectErrorKind, Part, Put};

impl State {
    pub(super) fn begin_upload(&mut self, key: &str, now: SystemTime) -> String {
        let id = format!("upload-{}", self.next_change());
        let upload = Upload { key: key.to_owned(), begun: now, parts: std::collections::BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    pub(super) fn upload(&mut self, request: &str, of: Multipart<'_>) -> Result<&mut Upload, ObjectError> {
        let upload = self.uploads.get_mut(of.id).filter(|upload| upload.key == of.key);
        upload.ok_or_else(|| refuse(ObjectErrorKind::NotFound, request, of.key, "404 NoSuchUpload"))
    }

    pub(super) fn put_part(
        &mut self,
        options: &MemOptions,
        of: Multipart<'_>,
        number: u32,
        body: Body,
    ) -> Result<Part, ObjectError> {
        if number == 0 || number > options.max_parts {
            return Err(refuse(ObjectErrorKind::Refused, "put part of", of.key, "400 InvalidArgument"));
        }
        let (tag, length) = (etag(&body.md5(), ""), body.length());
        self.upload("put part of", of)?.parts.insert(number, (tag.clone(), body));
        Ok(Part { number, tag, length })
    }

    pub(super) fn copy_part(
        &mut self,
        options: &MemOptions,
        of: Multipart<'_>,
        number: u32,
        from: &str,
        range: Range<u64>,
    ) -> Result<Part, ObjectError> {
        let Some(source) = self.objects.get(from) else {
            return Err(refuse(ObjectErrorKind::NotFound, "copy part from", from, "404 NoSuchKey"));
        };
        if range.start >= range.end || range.end > source.meta.length {
            return Err(refuse(ObjectErrorKind::Refused, "copy part from", from, "416 InvalidRange"));
        }
        let body = source.body.slice(range);
        self.put_part(options, of, number, body)
    }

    pub(super) fn complete(
        &mut self,
        options: &MemOptions,
        of: Multipart<'_>,
        parts: &[Part],
        condition: Condition<'_>,
        now: SystemTime,
    ) -> Result<Put, ObjectError> {
        let refused = |code| refuse(ObjectErrorKind::Refused, "complete upload of", of.key, code);
        let upload = self.upload("complete upload of", of)?;
        if parts.is_empty() {
            return Err(refused("400 MalformedXML"));
        }
        if !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err(refused("400 InvalidPartOrder"));
        }
        let mut bodies = Vec::with_capacity(parts.len());
        let mut hashes = Vec::new();
        for part in parts {
            let Some((_, body)) = upload.parts.get(&part.number).filter(|(tag, _)| *tag == part.tag) else {
                return Err(refuse(
                    ObjectErrorKind::NotFound,
                    "complete upload of",
                    of.key,
                    "400 InvalidPart",
                ));
            };
            hashes.extend(body.md5());
            bodies.push(body.clone());
        }
        let all_but_last = &bodies[..bodies.len() - 1];
        if all_but_last.iter().any(|body| body.length() < options.min_part_bytes) {
            return Err(refused("400 EntityTooSmall"));
        }
        let first = bodies[0].length();
        let is_unequal = all_but_last.iter().any(|body| body.length() != first)
            || bodies.last().is_some_and(|last| last.length() > first);
        if options.requires_equal_parts && is_unequal {
            return Err(refused("400 InvalidPart: all parts but the last must have one length"));
        }
        self.check_write(options, "complete upload of", of.key, condition)?;
        self.uploads.remove(of.id);
        let md5: [u8; 16] = <md5::Md5 as md5::Digest>::digest(&hashes).into();
        let tag = etag(&md5, &format!("-{}", parts.len()));
        Ok(self.insert(options, of.key, Body::join(bodies.iter()), Some(tag), now))
    }
}
