//! Answers in XML.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::transport::{What, etag};
use crate::{ObjectError, ObjectErrorKind, ObjectMeta, Part, PendingUpload};

/// Parses an answer.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], what: What<'_>) -> Result<T, ObjectError> {
    let invalid = |reason: String| {
        ObjectError::new(ObjectErrorKind::Unknown, format!("{what}: the answer is not valid XML: {reason}"))
    };
    let text = std::str::from_utf8(body).map_err(|error| invalid(error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| invalid(quinistry_oci::escape::line(&error.to_string())))
}

/// Page of a list of objects.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObjectsPage {
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(default)]
    pub(super) contents: Vec<ListedObject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedObject {
    pub(super) key: String,
    last_modified: Timestamp,
    #[serde(rename = "ETag", default)]
    e_tag: String,
    /// Generation, of Google alone.
    generation: Option<String>,
    size: u64,
}

/// Page of a list of parts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PartsPage {
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) next_part_number_marker: Option<String>,
    #[serde(rename = "Part", default)]
    pub(super) parts: Vec<ListedPart>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedPart {
    part_number: u32,
    #[serde(rename = "ETag")]
    e_tag: String,
    size: u64,
}

/// Page of a list of uploads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadsPage {
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) next_key_marker: Option<String>,
    pub(super) next_upload_id_marker: Option<String>,
    #[serde(rename = "Upload", default)]
    pub(super) uploads: Vec<ListedUpload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedUpload {
    pub(super) key: String,
    upload_id: String,
    initiated: Timestamp,
}

/// Name of a new upload.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NewUpload {
    pub(super) upload_id: String,
}

/// Outcome of a copy, or of the end of an upload.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    #[serde(rename = "ETag")]
    pub(super) e_tag: Option<String>,
}

/// Outcome of the removal of many objects.
#[derive(Debug, Deserialize)]
pub(super) struct Removals {
    #[serde(rename = "Error", default)]
    pub(super) errors: Vec<RemovalError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RemovalError {
    pub(super) key: String,
    #[serde(default)]
    pub(super) code: String,
}

// === impl ListedObject ===

impl ListedObject {
    /// Returns the metadata as the head of an answer has it: times of whole seconds, and no quotes.
    pub(super) fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            length: self.size,
            modified: whole_seconds(self.last_modified),
            version: self.generation.clone().unwrap_or_else(|| etag(&self.e_tag)),
        }
    }
}

// === impl ListedPart ===

impl From<ListedPart> for Part {
    fn from(part: ListedPart) -> Self {
        Self { number: part.part_number, tag: etag(&part.e_tag), length: part.size }
    }
}

// === impl ListedUpload ===

impl ListedUpload {
    /// Returns the upload, whose key is relative to a root.
    pub(super) fn beneath(self, root: &str) -> Option<PendingUpload> {
        let key = self.key.strip_prefix(root)?.to_owned();
        Some(PendingUpload { key, id: self.upload_id, begun: whole_seconds(self.initiated) })
    }
}

fn whole_seconds(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
}

/// Writes an element with a text, which is escaped.
pub(super) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", quick_xml::escape::escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: What<'_> = What("LIST", "a");

    #[test]
    fn a_page_of_objects_has_the_metadata_of_a_look_up() {
        let page = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Name>b</Name><IsTruncated>true</IsTruncated>\
            <Contents><Key>a/&amp;&#x20;b</Key><LastModified>2013-05-24T00:00:00.789Z</LastModified>\
            <ETag>&quot;abc&quot;</ETag><Size>3</Size><StorageClass>STANDARD</StorageClass></Contents>\
            <Contents><Key>a//</Key><Generation>17</Generation><LastModified>2013-05-24T00:00:00Z</LastModified>\
            <ETag>\"abc\"</ETag><Size>0</Size></Contents></ListBucketResult>";
        let page: ObjectsPage = parse(page.as_bytes(), WHAT).unwrap();
        assert!(page.is_truncated);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let first = ObjectMeta { length: 3, modified, version: "abc".into() };
        assert_eq!((&page.contents[0].key[..], page.contents[0].meta()), ("a/& b", first));
        assert_eq!((&page.contents[1].key[..], &page.contents[1].meta().version[..]), ("a//", "17"));
        let empty: ObjectsPage = parse(b"<ListBucketResult></ListBucketResult>", WHAT).unwrap();
        assert!(empty.contents.is_empty() && !empty.is_truncated);
    }

    #[test]
    fn parts_and_uploads_are_those_of_the_answer() {
        let page = "<ListPartsResult><UploadId>u</UploadId><NextPartNumberMarker>2</NextPartNumberMarker>\
            <IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag><Size>5</Size></Part>\
            <Part><PartNumber>2</PartNumber><ETag>y</ETag><Size>6</Size></Part></ListPartsResult>";
        let page: PartsPage = parse(page.as_bytes(), WHAT).unwrap();
        assert_eq!(page.next_part_number_marker.as_deref(), Some("2"));
        let parts: Vec<Part> = page.parts.into_iter().map(Part::from).collect();
        assert_eq!(parts[1], Part { number: 2, tag: "y".into(), length: 6 });
        let page = "<ListMultipartUploadsResult><Upload><Key>r/a</Key><UploadId>u</UploadId>\
            <Initiated>2013-05-24T00:00:00.000Z</Initiated></Upload><Upload><Key>other</Key><UploadId>u</UploadId>\
            <Initiated>2013-05-24T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>";
        let page: UploadsPage = parse(page.as_bytes(), WHAT).unwrap();
        let found: Vec<_> = page.uploads.into_iter().filter_map(|upload| upload.beneath("r/")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].key[..], &found[0].id[..]), ("a", "u"));
    }

    #[test]
    fn what_is_no_xml_is_an_error_on_one_line() {
        for body in [&b"<html>\n<b>sign in"[..], b"", b"\xff", b"{}"] {
            let error = parse::<ObjectsPage>(body, WHAT);
            assert!(error.is_err_and(|error| !error.to_string().contains('\n')), "{body:?}");
        }
        assert_eq!(element("Key", "a<b&\"c\""), "<Key>a&lt;b&amp;&quot;c&quot;</Key>");
    }
}
