//! The `CustomResourceDefinition`, as `kubectl apply` takes it.
//!
//! Derived from the types; `crds/` holds it as YAML, and a test fails when the two differ. The program prints that file
//! and does not derive anything: what makes schemas would be half a megabyte of it.

use kube::CustomResourceExt as _;
use serde_json::Value;

use super::Quinistry;

/// The definition as JSON, in the spelling that the API server keeps: no `nullable` for what is merely optional,
/// and no fractions in whole numbers, which tools that compare would report as drift for ever.
#[must_use]
pub fn definition() -> Value {
    let mut value = serde_json::to_value(Quinistry::crd()).expect("a definition is JSON");
    normalise(&mut value);
    value
}

/// The oldest Kubernetes, major and minor version, that the definition and everything else is tested on: the oldest of
/// `.github/workflows/e2e.yaml`. The chart and the documentation name the same, to which a test holds them.
pub const OLDEST_KUBERNETES: (u32, u32) = (1, 33);

/// The definition as YAML.
pub const DEFINITION_YAML: &str = include_str!("../../../crds/quinistries.quinistry.dev.yaml");

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
