//! The `Bundle` of images that were loaded: its application, and the wait until all nodes can serve it. (Client required.)

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use super::api::{BUNDLE, Cluster};
use super::error::InstallError;
use super::install::{InstallProgress, InstallProgressFn, POLL_INTERVAL};
use crate::api::conditions::AVAILABLE;
use crate::crd::BundleReason;

/// Applies a `Bundle`, and takes no name from another writer, whose digests may be newer. Returns the names in it that
/// are not of `object`: another writer owns them, so that they stay.
pub async fn apply_bundle(cluster: &Cluster, object: &Value) -> Result<Vec<String>, InstallError> {
    let applied = cluster.apply_unforced(object).await.map_err(|error| not_applied(object, error))?;
    let (ours, all) = (names(object), names(&applied));
    Ok(all.into_iter().filter(|name| !ours.contains(name)).map(str::to_owned).collect())
}

/// Adds to a conflict what it means: another writer has given names of the `Bundle` other digests.
fn not_applied(object: &Value, error: InstallError) -> InstallError {
    match error {
        InstallError::Api { why, code: Some(409), .. } => {
            let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            InstallError::Refused(format!(
                "failed to apply Bundle {}/{}: another manager owns names of it, with other values: {why}; apply it as that \
                 manager, such as by `quinistry load FILE --bundle | kubectl apply -f -`, or remove the names there and \
                 give FILE another name",
                part("namespace"),
                part("name")
            ))
        }
        error => error,
    }
}

/// Returns true if the bundles of the namespace of `object`, taken together, have all of its names with the same digests.
/// False without the right to list them.
pub(super) async fn is_applied(cluster: &Cluster, object: &Value) -> bool {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let bundles = cluster.list::<Value>(BUNDLE, namespace, "").await.unwrap_or_default();
    has_all(&bundles, object)
}

/// Waits until all nodes that the operator asks can serve a `Bundle`, for as long as `timeout`. Returns the operator's
/// reason if it cannot ask any: waiting would not end.
pub async fn wait_until_available(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    timeout: Duration,
    report: InstallProgressFn<'_>,
) -> Result<Option<String>, InstallError> {
    let began = Instant::now();
    loop {
        let Some(bundle) = cluster.get::<Value>(BUNDLE, namespace, name).await? else {
            return Err(InstallError::Refused(format!(
                "Bundle {namespace}/{name} was deleted during this run; run this again to restore it"
            )));
        };
        let why = match availability(&bundle) {
            Availability::Available => return Ok(None),
            Availability::Unknowable(why) => return Ok(Some(why)),
            Availability::Pending(why) => why,
        };
        report(InstallProgress::Waiting(format!("waiting for Bundle {namespace}/{name}: {why}")));
        if began.elapsed() > timeout {
            let what = format!("Bundle {namespace}/{name} is not Available");
            return Err(InstallError::Timeout { what, after: timeout, why });
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Availability of a `Bundle` on the nodes.
#[derive(Debug, PartialEq, Eq)]
enum Availability {
    /// All nodes that were asked can serve all names.
    Available,
    /// The operator cannot ask the nodes, for this reason.
    Unknowable(String),
    /// Not yet, for this reason.
    Pending(String),
}

/// Returns the availability of a `Bundle`. A status of an earlier list of names does not count.
fn availability(bundle: &Value) -> Availability {
    let status = &bundle["status"];
    let is_current = status["observedGeneration"].as_i64() >= bundle["metadata"]["generation"].as_i64();
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let Some(condition) = conditions.find(|one| is_current && one["type"] == AVAILABLE) else {
        return Availability::Pending("the operator has not looked at it yet".into());
    };
    let text = |key: &str| condition[key].as_str().unwrap_or_default();
    if text("status") == "True" {
        Availability::Available
    } else if text("reason") == BundleReason::NodesUnreachable.to_string() {
        Availability::Unknowable(text("message").into())
    } else {
        Availability::Pending(format!("{}: {}", text("reason"), text("message")))
    }
}

fn has_all(bundles: &[Value], object: &Value) -> bool {
    let entries = |bundle: &Value| bundle["spec"]["names"].as_array().cloned().unwrap_or_default();
    let there: Vec<Value> = bundles.iter().flat_map(entries).collect();
    let is_there = |wanted: &Value| {
        there.iter().any(|one| one["name"] == wanted["name"] && one["digest"] == wanted["digest"])
    };
    entries(object).iter().all(is_there)
}

/// Returns the names of a `Bundle`.
fn names(bundle: &Value) -> Vec<&str> {
    let names = bundle["spec"]["names"].as_array().into_iter().flatten();
    names.filter_map(|one| one["name"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_may_be_in_several_bundles_and_count_with_their_digests() {
        let bundle = |names: &[(&str, &str)]| {
            let names: Vec<Value> =
                names.iter().map(|(name, digest)| json!({"name": name, "digest": digest})).collect();
            json!({"spec": {"names": names}})
        };
        let wanted = bundle(&[("a:1", "x"), ("b:1", "y")]);
        assert!(has_all(&[bundle(&[("a:1", "x")]), bundle(&[("b:1", "y"), ("c:1", "z")])], &wanted));
        assert!(!has_all(&[bundle(&[("a:1", "x"), ("b:1", "x")])], &wanted));
        assert!(!has_all(&[], &wanted));
    }

    #[test]
    fn a_bundle_is_available_by_a_status_of_its_present_names() {
        let bundle = |generation: i64, (status, reason): (&str, &str)| {
            let condition = json!({"type": "Available", "status": status, "reason": reason, "message": "n1 has not read"});
            let status = json!({"observedGeneration": 1, "conditions": [condition]});
            availability(&json!({"metadata": {"generation": generation}, "status": status}))
        };
        assert_eq!(bundle(1, ("True", "Served")), Availability::Available);
        let spreading = Availability::Pending("Spreading: n1 has not read".into());
        assert_eq!(bundle(1, ("False", "Spreading")), spreading);
        let unseen = Availability::Pending("the operator has not looked at it yet".into());
        assert_eq!(bundle(2, ("True", "Served")), unseen);
        assert_eq!(availability(&json!({})), unseen);
        let unreachable = ("Unknown", "NodesUnreachable");
        assert_eq!(bundle(1, unreachable), Availability::Unknowable("n1 has not read".into()));
        assert_eq!(bundle(2, unreachable), unseen, "the reason may be of earlier names");
    }

    #[test]
    fn a_conflict_names_the_bundle_and_what_to_do() {
        let object = json!({"metadata": {"name": "shop", "namespace": "pantry"}});
        let api = |code| InstallError::Api {
            what: "apply Bundle pantry/shop".into(),
            why: "conflict with kubectl".into(),
            code: Some(code),
        };
        let text = not_applied(&object, api(409)).to_string();
        for part in ["Bundle pantry/shop", "another manager", "conflict with kubectl", "kubectl apply"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(not_applied(&object, api(403)).is_forbidden());
    }
}
