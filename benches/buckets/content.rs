//! Content that is pushed: never the same twice.

use quinistry::oci::{Descriptor, media_type};
use serde_json::json;

use super::registry::Program;

/// Maker of content.
#[derive(Debug)]
pub(crate) struct Content {
    program: Program,
    made: u64,
}

/// Bytes and their descriptor.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    pub(crate) fn new(program: Program) -> Self {
        Self { program, made: 0 }
    }

    /// Makes a blob.
    pub(crate) fn blob(&mut self, length: usize) -> Blob {
        self.made += 1;
        let mark = format!("{:?} {} ", self.program, self.made);
        let bytes: Vec<u8> = mark.bytes().cycle().take(length).collect();
        Blob { descriptor: Descriptor::of(media_type::OCI_LAYER_TAR, &bytes), bytes }
    }

    /// Makes a manifest of a configuration and a layer.
    pub(crate) fn manifest(parts: &[Blob; 2]) -> Vec<u8> {
        let [config, layer] = parts.each_ref().map(|part| &part.descriptor);
        let config = json!({
            "mediaType": media_type::OCI_CONFIG, "digest": config.digest, "size": config.size,
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
        });
        manifest.to_string().into_bytes()
    }
}
