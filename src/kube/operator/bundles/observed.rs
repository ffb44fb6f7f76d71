//! Observed bundles, and the `ConfigMaps` of names that were made of them, reduced on arrival. Plain values.
//!
//! Filled by `watch` and `write`, read by `plan`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::parse::{ParsedBundle, parse};
use crate::api::names::labels::NAMES;
use crate::api::names::{API_VERSION, BUNDLE_KIND};
use crate::api::types::Metadata as _;
use crate::crd::{self, BundleSpec, BundleStatus};
use crate::lenient::Guarded;
use crate::one_line::cut;
use crate::operator::cache::Cacheable;

/// Bundle whose specification and status may be of another version: only the metadata is typed.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = crd::Bundle)]
#[serde(default)]
pub(super) struct WireBundle {
    pub metadata: ObjectMeta,
    pub spec: Value,
    pub status: Value,
}

/// `ConfigMap` of names with its data.
#[derive(Resource, Clone, Debug, Default, Deserialize)]
#[resource(inherit = core::ConfigMap)]
#[serde(default)]
pub(super) struct WireNames {
    pub metadata: ObjectMeta,
    pub data: BTreeMap<String, String>,
}

/// A bundle, reduced.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ObservedBundle {
    /// Namespace of the bundle.
    pub namespace: String,
    /// Name of the bundle.
    pub name: String,
    /// UID of the bundle, unique over time.
    pub uid: String,
    /// `metadata.generation`, of the specification.
    pub generation: i64,
    /// Time at which the bundle was created.
    pub created: Timestamp,
    /// True if the bundle is being deleted.
    pub is_leaving: bool,
    /// The specification, or the reason why it cannot be used.
    pub spec: Result<ParsedBundle, String>,
    /// Status that the watch brought.
    pub status: Option<BundleStatus>,
}

/// A `ConfigMap` of names, reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedNames {
    /// `metadata.resourceVersion`, to write upon this state.
    pub version: String,
    /// Name of the resource that reads the names, as the label says.
    pub resource: Option<String>,
    /// UID and kind of the owner that controls the `ConfigMap`.
    pub controller: Option<(String, String)>,
    /// Hash of the applied content, as the annotation says.
    pub applied: Option<String>,
    /// The data by key.
    pub data: BTreeMap<String, String>,
}

impl Cacheable for ObservedBundle {}

// === impl ObservedBundle ===

impl ObservedBundle {
    /// Returns the bundle as Events refer to it.
    pub(super) fn object(&self) -> core::ObjectReference {
        core::ObjectReference {
            api_version: Some(API_VERSION.into()),
            kind: Some(BUNDLE_KIND.into()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..core::ObjectReference::default()
        }
    }
}

impl Cacheable for ObservedNames {
    fn inherit(&mut self, earlier: &Self) -> bool {
        // The response to a write may arrive before the watch shows an older change.
        let number = |version: &str| version.parse::<u64>().unwrap_or_default();
        number(&earlier.version) <= number(&self.version)
    }
}

/// Reduces a bundle, and returns it with its key.
pub(super) fn bundle(object: Guarded<WireBundle>) -> Option<(String, ObservedBundle)> {
    let (metadata, decoded, status) = match object.0 {
        Ok(WireBundle { metadata, spec, status }) => {
            let decoded = BundleSpec::deserialize(&spec).map_err(|error| cut(&error));
            (metadata, decoded, BundleStatus::deserialize(&status).ok())
        }
        Err(unreadable) => (unreadable.metadata, Err(unreadable.error), None),
    };
    let (namespace, name) = (metadata.namespace.clone()?, metadata.name.clone()?);
    let spec = match decoded {
        Ok(spec) => parse(&spec),
        Err(error) => Err(format!(
            "this operator cannot read the specification: {error}; it may be of another version, then operator and \
             definition must be brought to the same one"
        )),
    };
    let bundle = ObservedBundle {
        uid: metadata.uid.clone()?,
        generation: metadata.generation.unwrap_or_default(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0).unwrap_or_default(),
        is_leaving: metadata.is_terminating(),
        spec,
        status,
        namespace,
        name,
    };
    Some((format!("{}/{}", bundle.namespace, bundle.name), bundle))
}

/// Reduces a `ConfigMap` of names, and returns it with its key.
pub(super) fn names(map: WireNames) -> Option<(String, ObservedNames)> {
    let key = format!("{}/{}", map.metadata.namespace.as_ref()?, map.metadata.name.as_ref()?);
    let names = ObservedNames {
        version: map.metadata.resource_version.clone().unwrap_or_default(),
        resource: map.metadata.label(NAMES).map(str::to_owned),
        controller: map.metadata.controller().map(|owner| (owner.uid.clone(), owner.kind.clone())),
        applied: map.metadata.annotation(crate::api::names::annotations::APPLIED).map(str::to_owned),
        data: map.data,
    };
    Some((key, names))
}
