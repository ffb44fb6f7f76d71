//! Wait for the proof of all generations, after an installation.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::api::Cluster;
use super::error::InstallError;
use super::install::{
    InstallProgress, InstallProgressFn, POLL_INTERVAL, is_operator_alive, read_resource, resource_deleted,
};
use super::status::{self, StatusSnapshot};
use super::{InstallRequest, tree};
use crate::api::names::{RESOURCE, operator_namespace};

/// Waits until every generation is proven, for as long as `timeout`. Returns the last state of the generations. (Client
/// required.)
pub async fn wait_until_proven(
    cluster: &Cluster,
    request: &InstallRequest<'_>,
    timeout: Duration,
    report: InstallProgressFn<'_>,
) -> Result<StatusSnapshot, InstallError> {
    let began = Instant::now();
    let mut renewal = None;
    loop {
        let Some(quinistry) = read_resource(cluster, request.namespace).await? else {
            return Err(resource_deleted(request.namespace));
        };
        let snapshot = status::with_nodes(cluster, &quinistry, StatusSnapshot::of(&quinistry)).await?;
        report(InstallProgress::Snapshot(&snapshot));
        let is_requested = quinistry.spec.digest.as_deref() == Some(request.payload.digest.as_str());
        if !is_requested {
            let text = format!(
                "Quinistry {}/{RESOURCE} was changed to another digest during this run: another `up` installs another executable; run them one after the other",
                request.namespace
            );
            return Err(InstallError::Refused(text));
        }
        // Without a live operator the status may be out of date.
        let is_operated = is_operator_alive(cluster, request.namespace, &mut renewal).await?;
        if snapshot.ready && is_operated {
            return Ok(snapshot);
        }
        if began.elapsed() > timeout {
            let home = operator_namespace(request.namespace);
            let why = if is_operated {
                tree::summary(&snapshot)
            } else {
                format!("the operator is not available; `kubectl --namespace {home} describe pods` says why")
            };
            return Err(InstallError::Timeout {
                what: "not all generations are proven".into(),
                after: timeout,
                why,
            });
        }
        sleep(POLL_INTERVAL).await;
    }
}
