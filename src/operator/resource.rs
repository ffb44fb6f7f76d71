//! A resource as the watch brought it: its metadata, and its specification or why that cannot be read.
//!
//! A resource of another version of the definition, or with a number that does not fit, is neither obeyed as
//! it was before nor taken for deleted: it is told to be invalid until it can be read. Made by `watches`,
//! read by the driver.

use std::borrow::Cow;
use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::api::types;
use crate::crd::{MAX_GENERATIONS, Quinistry, QuinistryStatus};
use crate::lenient::Guarded;
use crate::one_line::cut;

/// A resource in the store.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    quinistry: Arc<Quinistry>,
    /// The decoder's error if the resource cannot be read; its specification is a stand-in then.
    error: Option<String>,
}

// === impl Watched ===

impl Watched {
    /// Reads a resource.
    pub(super) fn new(object: Guarded<types::Quinistry>) -> Self {
        let (mut metadata, spec, status, error) = match object.0 {
            Ok(types::Quinistry { metadata, spec, status }) => (metadata, spec, status, None),
            Err(unreadable) => (unreadable.metadata, Value::Null, Value::Null, Some(unreadable.error)),
        };
        // Nothing reads these, and they are most of it.
        metadata.managed_fields = None;
        metadata.annotations = None;
        let read = match error {
            Some(error) => Err(error),
            None => serde::Deserialize::deserialize(&spec).map_err(|error: serde_json::Error| cut(&error)),
        };
        let (spec, error) = match read {
            Ok(spec) => (spec, None),
            Err(error) => (stand_in(&spec), Some(error)),
        };
        // A status from another version counts as empty.
        let status = QuinistryStatus::deserialize(&status).ok();
        Self { quinistry: Arc::new(Quinistry { metadata, spec, status }), error }
    }

    /// Returns the resource if its specification can be read, or what cannot be.
    pub(super) fn readable(&self) -> Result<&Arc<Quinistry>, &str> {
        match &self.error {
            None => Ok(&self.quinistry),
            Some(error) => Err(error),
        }
    }

    /// Returns the resource for its metadata and status. Nothing may be made of its specification, which may
    /// be a stand-in.
    pub(super) fn outline(&self) -> &Quinistry {
        &self.quinistry
    }
}

/// Returns a specification that nothing is done for. It has as many generations as the one that cannot be
/// read, if that much of it can be, for the count in the status.
fn stand_in(spec: &Value) -> crate::crd::QuinistrySpec {
    let generations =
        spec["generations"].as_i64().filter(|count| (1..=MAX_GENERATIONS.into()).contains(count));
    let spec = json!({"suspend": true, "generations": generations.unwrap_or(1)});
    serde_json::from_value(spec).expect("every other field has a default")
}

impl Resource for Watched {
    type DynamicType = ();
    type Scope = <Quinistry as Resource>::Scope;

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
        &self.quinistry.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut Arc::make_mut(&mut self.quinistry).metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(spec: &Value) -> Watched {
        let metadata = json!({"name": "larder", "namespace": "pantry", "uid": "u", "generation": 4});
        let object = json!({"metadata": metadata, "spec": spec, "status": {"ready": "1/2"}});
        Watched::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_quantity_of_any_size_can_be_read() {
        for amount in [json!(1), json!(4_294_967_296_u64), json!(u64::MAX), json!("4Gi"), json!(-1)] {
            let resource = watched(&json!({"image": "i", "resources": {"limits": {"memory": amount}}}));
            assert!(resource.readable().is_ok(), "{amount}: {:?}", resource.readable());
        }
    }

    #[test]
    fn a_specification_that_cannot_be_read_keeps_its_metadata_and_tells_why() {
        for (spec, word) in [
            (json!({"image": "i", "network": {"mode": "Carrier"}}), "Carrier"),
            (json!({"image": "i", "generations": 4_294_967_296_u64}), "4294967296"),
            (json!({"image": "i", "tolerations": [{"tolerationSeconds": 1e30}]}), "floating point"),
            (json!({"image": 5}), "5"),
            (json!({"seed": {}}), "executable"),
            (json!([]), "QuinistrySpec"),
        ] {
            let resource = watched(&spec);
            let error = resource.readable().unwrap_err();
            assert!(error.contains(word), "{spec}: {error}");
            let outline = resource.outline();
            assert_eq!((outline.metadata.uid.as_deref(), outline.metadata.generation), (Some("u"), Some(4)));
            assert!(outline.spec.suspend && outline.spec.image.is_none());
        }
    }

    #[test]
    fn a_strange_status_is_none() {
        let object = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"image": "a"}, "status": {"conditions": 7}});
        let resource = Watched::new(serde_json::from_value(object).unwrap());
        let read = resource.readable().unwrap();
        assert_eq!((&read.status, &read.metadata.annotations), (&None, &None));
    }

    #[test]
    fn metadata_of_another_shape_leaves_the_resource_known_by_name() {
        let object = json!({"metadata": {"name": "larder", "labels": 5}, "spec": {"image": "i"}});
        let resource = Watched::new(serde_json::from_value(object).unwrap());
        assert!(resource.readable().is_err());
        assert_eq!(resource.outline().metadata.name.as_deref(), Some("larder"));
    }

    #[test]
    fn the_count_in_the_status_is_the_one_that_is_wanted_if_it_can_be_read() {
        let odd = |generations| json!({"image": 5, "generations": generations});
        assert_eq!(watched(&odd(3)).outline().spec.generations, 3);
        assert_eq!(watched(&odd(99)).outline().spec.generations, 1);
    }
}
