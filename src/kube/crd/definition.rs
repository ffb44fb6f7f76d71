//! Both `CustomResourceDefinitions`, as `kubectl apply` takes them.
//!
//! Derived from the types; `crds/` holds them as YAML, and a test fails if they differ. The program prints
//! these files: the code that derives schemas would add half a megabyte.

use kube::CustomResourceExt as _;
use serde_json::Value;

use super::{Bundle, Quinistry};
use crate::api::names::{BUNDLE_DEFINITION_NAME, DEFINITION_NAME};

/// Returns the definition of `Quinistry` as JSON in the form that the API server stores: no `nullable` on
/// optional fields, and no fractions in whole numbers. Otherwise tools would report drift without end.
#[must_use]
pub fn definition() -> Value {
    let mut value = serde_json::to_value(Quinistry::crd()).expect("a definition is JSON");
    normalise(&mut value);
    value
}

/// Returns the definition of `Bundle` as JSON in the form that the API server stores.
#[must_use]
pub fn bundle_definition() -> Value {
    let mut value = serde_json::to_value(Bundle::crd()).expect("a definition is JSON");
    normalise(&mut value);
    value
}

/// Oldest supported Kubernetes, major and minor version: the oldest that `.github/workflows/e2e.yaml` tests.
/// A test holds the chart and the documentation to it.
pub const OLDEST_KUBERNETES: (u32, u32) = (1, 33);

/// Definition of `Quinistry` as YAML.
pub const DEFINITION_YAML: &str = include_str!("../../../crds/quinistries.quinistry.dev.yaml");

/// Definition of `Bundle` as YAML.
pub const BUNDLE_DEFINITION_YAML: &str = include_str!("../../../crds/bundles.quinistry.dev.yaml");

/// Names of all definitions, each with its YAML, in the order in which they are applied.
pub const DEFINITIONS: [(&str, &str); 2] =
    [(DEFINITION_NAME, DEFINITION_YAML), (BUNDLE_DEFINITION_NAME, BUNDLE_DEFINITION_YAML)];

fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("nullable");
            map.values_mut().for_each(normalise);
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Number(number) => {
            // Bounds come as floating-point numbers; those here are whole and small.
            #[expect(clippy::cast_possible_truncation, reason = "bounds are small")]
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
            {
                *number = (float as i64).into();
            }
        }
        _ => {}
    }
}
