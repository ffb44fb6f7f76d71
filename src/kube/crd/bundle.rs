//! The `Bundle` resource: names of images with their digests, which the stores and generations of a
//! `Quinistry` serve. The bytes come by `quinistry load`.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{BundleStatus, DIGEST_PATTERN};

/// Number of names of one bundle at most.
pub const MAX_BUNDLE_NAMES: usize = 256;

/// Pattern of a name: `HOST[:PORT]/PATH:TAG`. The host has a dot or a port, or is `localhost`; host and path
/// have the components of a repository's name (OCI distribution-spec, Pulling manifests).
const NAME_PATTERN: &str = concat!(
    r"^(localhost(:[0-9]{1,5})?",
    r"|[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*:[0-9]{1,5}",
    r"|[a-z0-9]+((_|__|-+)[a-z0-9]+)*\.[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(:[0-9]{1,5})?)",
    r"(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+",
    r":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
);

/// Pattern of a name of a `Quinistry`.
const REGISTRY_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// Names of images with their digests, which stores and generations of a Quinistry resource serve on every
/// node.
#[allow(clippy::duplicated_attributes, reason = "each column has a type")]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "quinistry.dev",
    version = "v1alpha1",
    kind = "Bundle",
    plural = "bundles",
    shortname = "qb",
    namespaced,
    status = "BundleStatus",
    derive = "PartialEq",
    doc = "Names of images with their digests, which stores and generations of a Quinistry resource serve on every node.",
    printcolumn(name = "Images", type_ = "string", json_path = ".status.images"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes"),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Available')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registry", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Available')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Available')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BundleSpec {
    /// Name of the Quinistry resource of the same namespace whose stores and generations serve the images.
    /// Without it, the namespace's only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 57), regex(pattern = REGISTRY_PATTERN))]
    pub registry: Option<String>,

    /// Names that are answered on every node, each with the digest that it means: 1 to 256.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub names: Vec<BundleName>,

    /// Digest of the index over everything in the bundle. Shown, and not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub digest: Option<String>,

    /// Number of former lists of names whose images the stores keep for a rollback: 0 to 10, by default 1.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 10))]
    pub history: i32,
}

/// Name of an image, with the digest that it means.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleName {
    /// Full name of the image: HOST/PATH:TAG. At most 384 characters.
    #[schemars(length(max = 384), regex(pattern = NAME_PATTERN))]
    pub name: String,

    /// Digest of the image's manifest or index.
    #[schemars(regex(pattern = DIGEST_PATTERN))]
    pub digest: String,
}

const fn default_history() -> i32 {
    1
}
