//! Kubernetes without a cluster: the resource's definition, the operator, `up`, `down`, `check` and `status`
//! against API servers of these tests, the Helm chart, and the observer of the stories in `e2e/`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod bundle_crd;
mod chart;
mod cluster;
mod crd;
mod e2e_availability;
mod e2e_observer;
mod operator;
mod registry_chart;
mod up;
