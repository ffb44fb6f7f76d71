//! Docker's `manifest.json`, which `docker load` reads and `docker save` writes.
//!
//! Only the document; finding the files that it names is the reader's work, putting them there the writer's.

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageReference, null_as_default};

use super::blob_path;

/// Blobs of one image that `docker load` needs: its configuration and its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerImage {
    /// The configuration.
    pub config: Digest,
    /// The layers, lowest first.
    pub layers: Vec<Digest>,
}

/// One entry of `manifest.json`. The field names are Docker's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerIndexEntry {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    /// Docker writes null for an image without layers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) layers: Vec<String>,
}

impl DockerIndexEntry {
    pub(super) fn new(image: &DockerImage, name: Option<&str>) -> Self {
        Self {
            config: blob_path(&image.config),
            repo_tags: name.and_then(repo_tag).map(|tag| vec![tag]),
            layers: image.layers.iter().map(blob_path).collect(),
        }
    }
}

/// Docker takes `name:tag` only, and refuses the whole archive for a name with a digest.
fn repo_tag(name: &str) -> Option<String> {
    let reference: ImageReference = name.parse().ok()?;
    let tag = reference.tag()?;
    Some(format!("{}/{}:{tag}", reference.host(), reference.repository()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_tag_are_given_to_docker() {
        let digest = Digest::sha256(b"");
        assert_eq!(repo_tag("localhost:1/a:b").as_deref(), Some("localhost:1/a:b"));
        assert_eq!(repo_tag(&format!("localhost:1/a:b@{digest}")).as_deref(), Some("localhost:1/a:b"));
        assert_eq!(repo_tag(&format!("localhost:1/a@{digest}")), None);
        assert_eq!(repo_tag("nonsense"), None);
    }
}
