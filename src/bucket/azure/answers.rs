//! Documents of Azure Blob Storage.

use std::time::SystemTime;

use serde::Deserialize;

use crate::ObjectMeta;
use crate::transport::etag;

/// Page of a list of blobs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BlobsPage {
    pub(super) blobs: Blobs,
    #[serde(default)]
    pub(super) next_marker: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Blobs {
    #[serde(rename = "Blob", default)]
    pub(super) all: Vec<Blob>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Blob {
    pub(super) name: String,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
struct Properties {
    #[serde(rename = "Last-Modified", default)]
    last_modified: String,
    #[serde(rename = "Etag", default)]
    etag: String,
    #[serde(rename = "Content-Length")]
    length: u64,
}

// === impl Blob ===

impl Blob {
    pub(super) fn meta(&self) -> ObjectMeta {
        let Properties { last_modified, etag: version, length } = &self.properties;
        let modified = httpdate::parse_http_date(last_modified).unwrap_or(SystemTime::UNIX_EPOCH);
        ObjectMeta { length: *length, modified, version: etag(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::What;
    use crate::xml::parse;

    #[test]
    fn blobs_have_the_metadata_of_a_look_up() {
        let page = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"c\"><Prefix>a</Prefix>\
            <Blobs><Blob><Name>a/b</Name><Properties><Last-Modified>Fri, 24 May 2013 00:00:00 GMT</Last-Modified>\
            <Etag>0x8D</Etag><Content-Length>3</Content-Length><BlobType>BlockBlob</BlobType></Properties></Blob>\
            </Blobs><NextMarker>m</NextMarker></EnumerationResults>";
        let page: BlobsPage = parse(page.as_bytes(), What("LIST", "a")).unwrap();
        let meta = page.blobs.all[0].meta();
        assert_eq!((&page.blobs.all[0].name[..], meta.length, &meta.version[..]), ("a/b", 3, "0x8D"));
        assert_eq!(meta.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1_369_353_600);
        assert_eq!(page.next_marker, "m");
        let empty = "<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>";
        let empty: BlobsPage = parse(empty.as_bytes(), What("LIST", "a")).unwrap();
        assert!(empty.blobs.all.is_empty() && empty.next_marker.is_empty());
    }
}
