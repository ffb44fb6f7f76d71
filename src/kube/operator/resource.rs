//! A resource, parsed once: its identity, and its specification if that is valid.
//!
//! A resource of another version of the definition, or with a number that does not fit, neither counts as it
//! was before nor as deleted: it is reported as invalid until it can be read, and so is one with an
//! impossible specification. Created by `watches`, read by the driver; all other code trusts the types.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;
use quinistry_oci::Digest;
use serde::Deserialize as _;
use serde_json::Value;

use super::plan::{ReconcilePlan, Share, ValidSpec, validate};
use super::rival::Rival;
use crate::api::names::{API_VERSION, KIND};
use crate::api::types;
use crate::crd::{MAX_GENERATIONS, Quinistry, QuinistrySpec, QuinistryStatus};
use crate::lenient::Guarded;
use crate::one_line::cut;

/// Identity of a resource on the API server, independent of its specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourceIdentity {
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// UID of the resource, unique over time.
    pub uid: String,
    /// `metadata.generation`, of the specification.
    pub generation: i64,
    /// `metadata.resourceVersion`.
    pub version: Option<String>,
    /// Time at which the resource was created.
    pub created: Option<Timestamp>,
    /// True if the resource is being deleted.
    pub is_leaving: bool,
}

/// A resource whose specification can be carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValidResource {
    /// Identity of the resource.
    pub identity: ResourceIdentity,
    /// Specification of the resource.
    pub spec: Arc<QuinistrySpec>,
    /// `spec.digest`, parsed.
    pub digest: Option<Digest>,
    /// `spec.seed.executable`, parsed.
    pub executable: Option<Digest>,
    /// `spec.rollout.maxUnavailable`, parsed.
    pub max_unavailable: Share,
    /// `spec.rollout.tolerateNodes`, parsed.
    pub tolerated: Share,
}

/// Reason why a specification cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SpecError {
    /// The specification cannot be decoded, for this reason.
    Unreadable(String),
    /// The specification is invalid, for this reason.
    Invalid(String),
}

/// A resource as the watch brought it.
#[derive(Clone, Debug)]
pub(super) struct WatchedResource {
    /// Metadata, the key of the resource in the store.
    metadata: ObjectMeta,
    identity: ResourceIdentity,
    resource: Result<Arc<ValidResource>, SpecError>,
    /// The resource as a rival of others, if its specification can be decoded.
    rival: Option<Arc<Rival>>,
    /// Number of wanted generations, as far as it can be read.
    generations: i32,
    status: Option<QuinistryStatus>,
}

// === impl ResourceIdentity ===

impl ResourceIdentity {
    /// Reads metadata; fails with the field that is missing.
    pub(super) fn of(metadata: &ObjectMeta) -> Result<Self, &'static str> {
        let text = |field: &Option<String>, name| field.clone().filter(|text| !text.is_empty()).ok_or(name);
        Ok(Self {
            namespace: text(&metadata.namespace, "metadata.namespace")?,
            name: text(&metadata.name, "metadata.name")?,
            uid: text(&metadata.uid, "metadata.uid")?,
            generation: metadata.generation.unwrap_or_default(),
            version: metadata.resource_version.clone(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_leaving: metadata.deletion_timestamp.is_some(),
        })
    }

    /// Returns the resource as an owner of other objects.
    pub(super) fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        }
    }

    /// Returns the resource as the owner that controls an object.
    pub(super) fn controller(&self) -> OwnerReference {
        // Without blockOwnerDeletion, which would need more rights where they are enforced.
        OwnerReference { controller: Some(true), ..self.owner() }
    }

    /// Returns the resource as what an Event is about.
    pub(super) fn object(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(API_VERSION.into()),
            kind: Some(KIND.into()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

impl fmt::Display for ResourceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl ValidResource ===

impl ValidResource {
    /// Parses a resource whose specification was decoded.
    pub(super) fn parse(quinistry: &Quinistry) -> Result<Self, SpecError> {
        let identity = ResourceIdentity::of(&quinistry.metadata)
            .map_err(|missing| SpecError::Unreadable(format!("{missing} is missing")))?;
        Self::new(identity, Arc::new(quinistry.spec.clone()))
    }

    fn new(identity: ResourceIdentity, spec: Arc<QuinistrySpec>) -> Result<Self, SpecError> {
        let valid = validate(&identity.name, &spec).map_err(SpecError::Invalid)?;
        // Without `..`, so that a new field cannot be forgotten here.
        let ValidSpec { digest, executable, max_unavailable, tolerated } = valid;
        Ok(Self { identity, spec, digest, executable, max_unavailable, tolerated })
    }

    /// Name of the resource.
    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    /// Namespace of the resource.
    pub(super) fn namespace(&self) -> &str {
        &self.identity.namespace
    }

    /// UID of the resource.
    pub(super) fn uid(&self) -> &str {
        &self.identity.uid
    }
}

// === impl SpecError ===

impl SpecError {
    /// Plans for such a resource: no action, and conditions that tell why.
    pub(super) fn plan(&self) -> ReconcilePlan {
        match self {
            Self::Unreadable(why) => ReconcilePlan::refused(format!(
                "this operator cannot read the specification: {why}; it may be of another version, then operator and \
                 definition must be brought to the same one"
            )),
            Self::Invalid(why) => ReconcilePlan::refused(why.clone()),
        }
    }
}

// === impl WatchedResource ===

impl WatchedResource {
    /// Reads a resource; `None` for an object without name, namespace or UID, which no API server sends.
    pub(super) fn new(object: Guarded<types::Quinistry>) -> Option<Self> {
        let (mut metadata, spec, status, error) = match object.0 {
            Ok(types::Quinistry { metadata, spec, status }) => (metadata, spec, status, None),
            Err(unreadable) => (unreadable.metadata, Value::Null, Value::Null, Some(unreadable.error)),
        };
        // Unused, and the largest part of the object.
        metadata.managed_fields = None;
        metadata.annotations = None;
        let identity = ResourceIdentity::of(&metadata)
            .inspect_err(|missing| tracing::warn!(missing, "ignoring Quinistry without identity"))
            .ok()?;
        let decoded: Result<QuinistrySpec, String> = match error {
            Some(error) => Err(error),
            None => QuinistrySpec::deserialize(&spec).map_err(|error| cut(&error)),
        };
        // A status from another version counts as empty.
        let status = QuinistryStatus::deserialize(&status).ok();
        let (resource, rival, generations) = match decoded {
            Ok(spec) => {
                let spec = Arc::new(spec);
                let resource = ValidResource::new(identity.clone(), spec.clone()).map(Arc::new);
                let generations = spec.generations;
                let rival = Rival::new(identity.clone(), spec, resource.is_ok(), status.as_ref());
                (resource, Some(Arc::new(rival)), generations)
            }
            Err(why) => (Err(SpecError::Unreadable(why)), None, generations(&spec)),
        };
        Some(Self { metadata, identity, resource, rival, generations, status })
    }

    /// Returns the resource if its specification can be carried out, or why not.
    pub(super) const fn resource(&self) -> Result<&Arc<ValidResource>, &SpecError> {
        self.resource.as_ref()
    }

    /// Returns the identity of the resource.
    pub(super) const fn identity(&self) -> &ResourceIdentity {
        &self.identity
    }

    /// Returns the resource as a rival of others; `None` if its specification cannot be decoded.
    pub(super) const fn rival(&self) -> Option<&Arc<Rival>> {
        self.rival.as_ref()
    }

    /// Returns the number of wanted generations, for the count in the status.
    pub(super) const fn generations(&self) -> i32 {
        self.generations
    }

    /// Returns the status that the watch brought.
    pub(super) const fn status(&self) -> Option<&QuinistryStatus> {
        self.status.as_ref()
    }
}

/// Returns the wanted number of generations of a specification that cannot be decoded; 1 if the number cannot
/// be read either.
fn generations(spec: &Value) -> i32 {
    let count = spec["generations"].as_i64().and_then(|count| i32::try_from(count).ok());
    count.filter(|count| (1..=MAX_GENERATIONS).contains(count)).unwrap_or(1)
}

impl kube::Resource for WatchedResource {
    type DynamicType = ();
    type Scope = <Quinistry as kube::Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Quinistry::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Quinistry::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Quinistry::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Quinistry::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(object: Value) -> Option<WatchedResource> {
        WatchedResource::new(serde_json::from_value(object).unwrap())
    }

    fn watched(spec: &Value) -> WatchedResource {
        let metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u", "generation": 4});
        read(json!({"metadata": metadata, "spec": spec, "status": {"ready": "1/2"}})).unwrap()
    }

    fn unreadable(spec: &Value) -> String {
        match watched(spec).resource() {
            Err(SpecError::Unreadable(why)) => why.clone(),
            other => panic!("{spec}: {other:?}"),
        }
    }

    #[test]
    fn a_quantity_of_any_size_can_be_read() {
        for amount in [json!(1), json!(4_294_967_296_u64), json!(u64::MAX), json!("4Gi"), json!(-1)] {
            let resource = watched(&json!({"image": "i", "resources": {"limits": {"memory": amount}}}));
            assert!(resource.resource().is_ok(), "{amount}: {:?}", resource.resource());
        }
    }

    #[test]
    fn an_unreadable_specification_keeps_its_identity_and_has_a_reason() {
        for (spec, word) in [
            (json!({"image": "i", "network": {"mode": "Carrier"}}), "Carrier"),
            (json!({"image": "i", "generations": 4_294_967_296_u64}), "4294967296"),
            (json!({"image": "i", "tolerations": [{"tolerationSeconds": 1e30}]}), "floating point"),
            (json!({"image": 5}), "5"),
            (json!({"seed": {}}), "executable"),
            (json!([]), "QuinistrySpec"),
        ] {
            let error = unreadable(&spec);
            assert!(error.contains(word), "{spec}: {error}");
            let resource = watched(&spec);
            let identity = resource.identity();
            assert_eq!((identity.uid.as_str(), identity.generation), ("u", 4));
            assert!(resource.rival().is_none(), "nothing is made of its specification");
        }
    }

    #[test]
    fn an_invalid_specification_has_a_reason_and_counts_as_a_rival() {
        let resource = watched(&json!({"image": "two words", "generations": 3}));
        assert!(matches!(resource.resource(), Err(SpecError::Invalid(why)) if why.contains("spaces")));
        assert_eq!(resource.generations(), 3);
        assert!(resource.rival().is_some_and(|rival| !rival.may_run), "what runs of it keeps its ports");
    }

    #[test]
    fn a_strange_status_is_none() {
        let metadata = json!({"name": "l", "namespace": "p", "uid": "u", "annotations": {"a": "b"}});
        let object = json!({"metadata": metadata, "spec": {"image": "a"}, "status": {"conditions": 7}});
        let resource = read(object).unwrap();
        assert!(resource.resource().is_ok());
        assert_eq!((resource.status(), &resource.metadata.annotations), (None, &None));
    }

    #[test]
    fn metadata_of_another_shape_leaves_the_resource_known_by_name() {
        let metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u", "labels": 5});
        let resource = read(json!({"metadata": metadata, "spec": {"image": "i"}})).unwrap();
        assert!(resource.resource().is_err());
        assert_eq!(resource.identity().to_string(), "pantry/larder");
    }

    #[test]
    fn an_object_without_identity_is_ignored() {
        for field in ["name", "namespace", "uid"] {
            let mut metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u"});
            metadata.as_object_mut().unwrap().remove(field);
            assert!(read(json!({"metadata": metadata, "spec": {"image": "i"}})).is_none(), "without {field}");
        }
    }

    #[test]
    fn the_count_in_the_status_is_the_wanted_one_if_readable() {
        let odd = |generations| json!({"image": 5, "generations": generations});
        assert_eq!(watched(&odd(3)).generations(), 3);
        assert_eq!(watched(&odd(99)).generations(), 1);
    }
}
