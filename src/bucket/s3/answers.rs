//! Documents of the XML interface.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::transport::etag;
use crate::{ObjectMeta, PendingUpload};

/// Encoding of the keys of a list. XML cannot hold all characters, and its parsers drop spaces at an end, so that
/// `url` is asked for; a store that does not know it leaves the element out.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Encoding(String);

/// Page of a list of objects.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ObjectsPage {
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) next_continuation_token: Option<String>,
    #[serde(rename = "EncodingType", default)]
    pub(super) encoding: Encoding,
    #[serde(default)]
    pub(super) contents: Vec<ListedObject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedObject {
    pub(super) key: String,
    last_modified: String,
    #[serde(rename = "ETag", default)]
    e_tag: String,
    /// Generation, of Google alone.
    generation: Option<String>,
    size: u64,
}

/// Page of a list of uploads.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UploadsPage {
    #[serde(default)]
    pub(super) is_truncated: bool,
    #[serde(rename = "EncodingType", default)]
    pub(super) encoding: Encoding,
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
    initiated: String,
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

// === impl Encoding ===

impl Encoding {
    pub(super) fn decode(&self, key: &str) -> String {
        if self.0 != "url" {
            return key.to_owned();
        }
        let spaced = key.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    }
}

// === impl ListedObject ===

impl ListedObject {
    /// Returns the metadata as the head of an answer has it: times of whole seconds, and no quotes.
    pub(super) fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            length: self.size,
            modified: whole_seconds(&self.last_modified),
            version: self.generation.clone().unwrap_or_else(|| etag(&self.e_tag)),
        }
    }
}

// === impl ListedUpload ===

impl ListedUpload {
    /// Returns the upload, whose key is relative to a root.
    pub(super) fn beneath(self, root: &str, encoding: &Encoding) -> Option<PendingUpload> {
        let key = encoding.decode(&self.key).strip_prefix(root)?.to_owned();
        Some(PendingUpload { key, id: self.upload_id, begun: whole_seconds(&self.initiated) })
    }
}

/// Parses a time of ISO 8601. One that is not valid is the epoch, so that the object counts as old.
fn whole_seconds(text: &str) -> SystemTime {
    let seconds = text.parse::<Timestamp>().map_or(0, Timestamp::as_second);
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::What;
    use crate::xml::parse;

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
        let modified = SystemTime::UNIX_EPOCH + Duration::from_hours(380_376);
        let first = ObjectMeta { length: 3, modified, version: "abc".into() };
        assert_eq!((&page.contents[0].key[..], page.contents[0].meta()), ("a/& b", first));
        assert_eq!((&page.contents[1].key[..], &page.contents[1].meta().version[..]), ("a//", "17"));
        let empty: ObjectsPage = parse(b"<ListBucketResult></ListBucketResult>", WHAT).unwrap();
        assert!(empty.contents.is_empty() && !empty.is_truncated);
    }

    #[test]
    fn uploads_are_those_of_the_answer() {
        let page = "<ListMultipartUploadsResult><Upload><Key>r/a</Key><UploadId>u</UploadId>\
            <Initiated>2013-05-24T00:00:00.000Z</Initiated></Upload><Upload><Key>other</Key><UploadId>u</UploadId>\
            <Initiated>2013-05-24T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>";
        let UploadsPage { uploads, encoding, .. } = parse(page.as_bytes(), WHAT).unwrap();
        let found: Vec<_> =
            uploads.into_iter().filter_map(|upload| upload.beneath("r/", &encoding)).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].key[..], &found[0].id[..]), ("a", "u"));
    }

    #[test]
    fn keys_are_decoded_where_the_store_says_that_they_are_encoded() {
        assert_eq!(Encoding::default().decode("a+%20"), "a+%20");
        assert_eq!(Encoding("url".into()).decode("a+%2B%20%252e%C3%BC/b"), "a + %2e\u{fc}/b");
    }
}
