//! Lists of keys, uploads and parts.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use quinistry_bucket::{ListingQuery, Multipart, ObjectError, ObjectMeta, Objects as _};

use super::answer::{Answer, etag, xml_date};
use super::request::Request;
use super::xml::escape;
use super::{BUCKET, Shape, Store};

/// A line of a list.
enum Entry {
    Object(String, ObjectMeta),
    /// Beginning of keys up to a delimiter.
    Prefix(String),
}

impl Store {
    pub(super) async fn list(&self, request: &Request) -> Result<Answer, ObjectError> {
        let prefix = request.parameter("prefix").unwrap_or("");
        let delimiter = request.parameter("delimiter").filter(|text| !text.is_empty());
        let limit = request.parameter("max-keys").and_then(|text| text.parse().ok()).unwrap_or(1_000);
        let tokens = ["continuation-token", "start-after", "marker"];
        let after = tokens.iter().find_map(|name| request.parameter(name));
        let (entries, next) = self.entries(prefix, delimiter, after, limit).await?;
        let is_encoded = is_encoded(request);
        let name = |key: &str| written(key, is_encoded);
        let mut text = format!("<ListBucketResult><Name>{BUCKET}</Name><Prefix>{}</Prefix>", name(prefix));
        if is_encoded {
            text += "<EncodingType>url</EncodingType>";
        }
        for entry in &entries {
            match entry {
                Entry::Prefix(prefix) => {
                    write!(text, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", name(prefix))
                        .unwrap();
                }
                Entry::Object(key, meta) => {
                    let ObjectMeta { length, modified, version } = meta;
                    let (key, tag) = (name(key), escape(&etag(self.shape, version)));
                    let modified = xml_date(*modified);
                    write!(text, "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified>")
                        .unwrap();
                    write!(text, "<ETag>{tag}</ETag><Size>{length}</Size>").unwrap();
                    if self.shape == Shape::Gcs {
                        write!(text, "<Generation>{version}</Generation>").unwrap();
                    }
                    text += "<StorageClass>STANDARD</StorageClass></Contents>";
                }
            }
        }
        let count = entries.len();
        write!(text, "<KeyCount>{count}</KeyCount><MaxKeys>{limit}</MaxKeys>").unwrap();
        write!(text, "<IsTruncated>{}</IsTruncated>", next.is_some()).unwrap();
        if let Some(next) = next {
            let token = escape(&next);
            write!(text, "<NextContinuationToken>{token}</NextContinuationToken>").unwrap();
        }
        Ok(Answer::xml(200, &(text + "</ListBucketResult>")))
    }

    /// Returns a page, and the name after which the next one begins.
    async fn entries(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Option<String>), ObjectError> {
        let limit = limit.min(1_000);
        let mut entries: Vec<Entry> = Vec::new();
        let mut after = after.map(|after| past(after, delimiter));
        loop {
            // One entry more than the page shows that another page follows.
            let query = ListingQuery { prefix, after: after.as_deref(), limit: limit.max(1) };
            let page = self.mem.list(query).await?;
            for (key, meta) in page.entries {
                let group = delimiter.and_then(|delimiter| {
                    let at = key[prefix.len()..].find(delimiter)?;
                    Some(key[..prefix.len() + at + delimiter.len()].to_owned())
                });
                let is_known = matches!((entries.last(), &group),
                    (Some(Entry::Prefix(last)), Some(group)) if last == group);
                after = Some(key.clone());
                if is_known {
                    continue;
                }
                if entries.len() == limit {
                    let next = match entries.last() {
                        Some(Entry::Prefix(prefix)) => prefix.clone(),
                        Some(Entry::Object(key, _)) => key.clone(),
                        None => String::new(),
                    };
                    return Ok((entries, Some(next)));
                }
                entries.push(group.map_or(Entry::Object(key, meta), Entry::Prefix));
            }
            if !page.is_truncated {
                return Ok((entries, None));
            }
        }
    }

    pub(super) async fn list_uploads(&self, request: &Request) -> Result<Answer, ObjectError> {
        let uploads = self.mem.list_uploads(request.parameter("prefix").unwrap_or("")).await?;
        let mut text = format!("<ListMultipartUploadsResult><Bucket>{BUCKET}</Bucket>");
        let is_encoded = is_encoded(request);
        if is_encoded {
            text += "<EncodingType>url</EncodingType>";
        }
        for upload in uploads {
            let key = written(&upload.key, is_encoded);
            let (id, begun) = (escape(&upload.id), xml_date(upload.begun));
            write!(text, "<Upload><Key>{key}</Key><UploadId>{id}</UploadId>").unwrap();
            write!(text, "<Initiated>{begun}</Initiated></Upload>").unwrap();
        }
        text += "<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
        Ok(Answer::xml(200, &text))
    }

    pub(super) fn list_parts(&self, request: &Request) -> Result<Answer, ObjectError> {
        let upload = Multipart { key: &request.key, id: request.parameter("uploadId").unwrap_or("") };
        let parts = self.mem.list_parts(upload)?;
        let number = |name| request.parameter(name).and_then(|text| text.parse::<u32>().ok());
        let (after, limit) =
            (number("part-number-marker").unwrap_or(0), number("max-parts").unwrap_or(1_000));
        let mut page: Vec<_> = parts.into_iter().filter(|part| part.number > after).collect();
        let limit = limit.min(1_000) as usize;
        let is_truncated = page.len() > limit;
        page.truncate(limit);
        let (key, id) = (escape(upload.key), escape(upload.id));
        let mut text = format!("<ListPartsResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key>");
        write!(text, "<UploadId>{id}</UploadId>").unwrap();
        for part in &page {
            let (number, tag, length) = (part.number, escape(&part.tag), part.length);
            write!(text, "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag>").unwrap();
            write!(text, "<Size>{length}</Size></Part>").unwrap();
        }
        if let Some(last) = page.last().filter(|_| is_truncated) {
            write!(text, "<NextPartNumberMarker>{}</NextPartNumberMarker>", last.number).unwrap();
        }
        write!(text, "<IsTruncated>{is_truncated}</IsTruncated></ListPartsResult>").unwrap();
        Ok(Answer::xml(200, &text))
    }
}

/// Returns true if the client wants keys in percent-encoding, since XML cannot hold all characters.
fn is_encoded(request: &Request) -> bool {
    request.parameter("encoding-type") == Some("url")
}

/// Returns a key as a list shows it.
fn written(key: &str, is_encoded: bool) -> String {
    if is_encoded { utf8_percent_encode(key, NON_ALPHANUMERIC).to_string() } else { escape(key) }
}

/// Returns the name after which a list goes on: behind all keys of a common prefix.
fn past(after: &str, delimiter: Option<&str>) -> String {
    let is_prefix = delimiter.is_some_and(|delimiter| after.ends_with(delimiter));
    if is_prefix { format!("{after}{}", char::MAX) } else { after.to_owned() }
}
