//! Wait for the pods of stores that were asked for a moment ago.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::Store;
use super::pods::running;
use crate::api::conditions::STORE_READY;
use crate::api::types::{Pod, Quinistry};
use crate::install::api::Cluster;
use crate::install::error::InstallError;
use crate::install::install::{InstallProgress, InstallProgressFn, POLL_INTERVAL};

/// Time for which a load waits for further stores once one runs. They copy from that one if they come later, but only
/// stores that run are asked for their room.
const STRAGGLER_TIMEOUT: Duration = Duration::from_mins(1);

/// Stores at one moment.
#[derive(Debug, PartialEq, Eq)]
struct Arrival {
    /// Number of pods that run.
    running: usize,
    /// Number of nodes that the operator has chosen for the present specification, if it has.
    chosen: Option<usize>,
    /// Reason and message of the condition `StoreReady`, if it is not true.
    why: String,
}

/// Waits until the stores of a resource run, for as long as `timeout`, and returns the store. Stores that are not complete
/// count: they may lack what is loaded next. (Client required.)
pub async fn wait_for_stores(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    timeout: Duration,
    report: InstallProgressFn<'_>,
) -> Result<Store, InstallError> {
    let (began, mut first) = (Instant::now(), None);
    loop {
        let resource = Store::read(cluster, namespace, name).await?;
        let store = Store::of(cluster, (namespace, name), &resource)?;
        let arrival = Arrival::of(&resource, &store.pods().await?);
        let text = arrival.text();
        if arrival.is_complete() {
            return Ok(store);
        }
        report(InstallProgress::Waiting(format!("waiting for the stores: {text}")));
        let waited = began.elapsed();
        if arrival.running > 0 {
            let first = *first.get_or_insert(waited);
            if waited > timeout || waited.saturating_sub(first) > STRAGGLER_TIMEOUT {
                report(InstallProgress::Waiting(format!("going on without the other stores: {text}")));
                return Ok(store);
            }
        } else if waited > timeout {
            let why = format!(
                "{text}; `kubectl --namespace {namespace} describe daemonset {name}-store` says more"
            );
            return Err(InstallError::Timeout { what: "no store runs".into(), after: timeout, why });
        }
        sleep(POLL_INTERVAL).await;
    }
}

// === impl Arrival ===

impl Arrival {
    fn of(Quinistry { metadata, status, .. }: &Quinistry, pods: &[Pod]) -> Self {
        let running = running(pods).len();
        let is_current = status["observedGeneration"].as_i64() >= metadata.generation;
        let chosen = status["store"]["nodes"].as_array().filter(|_| is_current).map(Vec::len);
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let why = conditions
            .filter(|_| is_current)
            .find(|one| one["type"] == STORE_READY && one["status"] != "True")
            .map(|one| format!("{}: {}", text(&one["reason"]), text(&one["message"])));
        Self { running, chosen, why: why.unwrap_or_default() }
    }

    fn is_complete(&self) -> bool {
        self.chosen.is_some_and(|chosen| chosen > 0 && self.running >= chosen)
    }

    fn text(&self) -> String {
        let Self { running, chosen, why } = self;
        let counts = match chosen {
            Some(chosen) => format!("{running} of {chosen} run"),
            None => format!("{running} run, and the operator has not chosen their nodes yet"),
        };
        if why.is_empty() { counts } else { format!("{counts}; {why}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arrival(observed: i64, nodes: &[&str], phases: &[&str]) -> Arrival {
        let condition =
            json!({"type": "StoreReady", "status": "False", "reason": "StoresNotReady", "message": "n2"});
        let resource: Quinistry = serde_json::from_value(json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": observed, "store": {"nodes": nodes}, "conditions": [condition]},
        }))
        .unwrap();
        let pod = |phase: &&str| serde_json::from_value(json!({"status": {"phase": phase}})).unwrap();
        Arrival::of(&resource, &phases.iter().map(pod).collect::<Vec<Pod>>())
    }

    #[test]
    fn stores_have_arrived_when_a_pod_runs_on_each_chosen_node() {
        let some = arrival(2, &["n1", "n2"], &["Running", "Pending"]);
        assert!(!some.is_complete());
        assert_eq!(some.text(), "1 of 2 run; StoresNotReady: n2");
        // What is not ready may lack the very images that are loaded next.
        assert!(arrival(2, &["n1", "n2"], &["Running", "Running"]).is_complete());
        assert!(!arrival(2, &[], &[]).is_complete());
    }

    #[test]
    fn a_status_of_an_earlier_specification_does_not_count() {
        let earlier = arrival(1, &["n1"], &["Running"]);
        assert!(!earlier.is_complete());
        assert_eq!(earlier.text(), "1 run, and the operator has not chosen their nodes yet");
    }
}
