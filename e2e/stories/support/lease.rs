//! The Lease of the operators' leader election.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::wait;

/// Waits until a holder satisfies a condition, and returns its identity.
pub async fn until_held(
    leases: &Api<Lease>,
    name: &str,
    deadline: Duration,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<String> {
    let what = format!("the expected operator holds Lease {name}");
    let held = |lease: &Lease| holder(lease).is_some_and(|holder| !holder.is_empty() && is_wanted(holder));
    let lease = wait::until(leases, name, deadline, &what, held).await?;
    Ok(holder(&lease).context("the Lease has a holder")?.to_owned())
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}
