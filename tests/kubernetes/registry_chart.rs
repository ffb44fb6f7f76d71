//! The chart of the registry, through a real helm: its objects, the configuration that the real program reads,
//! and values that make no sense. Tests that hold for every chart are in `chart`.
//!
//! The end-to-end suite installs the chart in a cluster.

#![allow(unreachable_pub, reason = "a test")]

mod configuration;
mod objects;
mod program;
mod refused;
mod renders;
mod shutdown;
mod test_pod;

use serde_json::Value;

use crate::chart::helm::{Helm, REGISTRY, only, parse, template_of};

/// Values of a registry on a bucket.
const S3: &str = "storage.type=s3,storage.s3.bucket=books,storage.s3.region=eu-central-1";

/// Returns the objects that the chart renders with these assignments of values.
fn objects(helm: &Helm, sets: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    parse(&helm.text(&template_of(REGISTRY, &args)))
}

/// Returns the specification of the registry's pods.
fn pod(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]
}

/// Returns the registry's only container.
fn container(objects: &[Value]) -> &Value {
    let containers = &pod(objects)["containers"];
    assert_eq!(containers.as_array().unwrap().len(), 1);
    &containers[0]
}

/// Returns the text of the configuration file.
fn file(objects: &[Value]) -> String {
    only(objects, "ConfigMap")["data"]["config.yml"].as_str().unwrap().to_owned()
}

/// Returns the content of the configuration file.
fn config(objects: &[Value]) -> Value {
    parse(&file(objects)).remove(0)
}
