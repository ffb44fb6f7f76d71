//! Operators of the cluster: which namespaces they watch, and whether the one that writes a status is alive.
//! Pure, except for [`list`], [`claim`] and [`lease`].

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::api::{Cluster, DEPLOYMENT, LEASE};
use super::error::InstallError;
use crate::api::names::annotations::HELM_RELEASE;
use crate::api::names::{APP, CLAIM, OPERATOR, labels, operator_namespace};
use crate::operator::naming;

/// Time after a Lease's expiry at which its holder counts as gone: clocks differ a little.
const LEASE_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// Duration of a Lease without `leaseDurationSeconds`, in seconds.
const DEFAULT_LEASE_SECONDS: i64 = 15;

/// Deployment of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OperatorDeployment {
    pub namespace: String,
    pub name: String,
    /// Helm release that installed it.
    pub release: Option<String>,
    pub arguments: Vec<String>,
    /// Name of the Lease for leader election; `None` without an election.
    pub lease: Option<String>,
    pub replicas: i64,
    pub available: i64,
}

/// State of the operator that writes a resource's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusWriter {
    /// State, as far as it is known.
    pub state: WriterState,
    /// The observation that shows that the operator is gone; empty otherwise.
    pub message: String,
}

/// State of an operator by its life signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum WriterState {
    /// The operator renews its claim or its Lease, or its Deployment is available.
    Alive,
    /// The operator shows no life sign.
    Gone,
    /// The operator's life signs cannot be read.
    #[default]
    Unknown,
}

// === impl OperatorDeployment ===

impl OperatorDeployment {
    /// Reads a Deployment; `None` if it is not an operator of quinistry.
    fn of(deployment: &Value) -> Option<Self> {
        let metadata = &deployment["metadata"];
        let spec = &deployment["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let containers = spec["template"]["spec"]["containers"].as_array()?;
        let arguments_of = |container: &Value| -> Vec<String> {
            let all = ["command", "args"].into_iter().filter_map(|key| container[key].as_array());
            all.flatten().map(&text).collect()
        };
        let is_ours = metadata["labels"][labels::APP_NAME] == APP;
        let (container, arguments) =
            containers.iter().map(|one| (one, arguments_of(one))).find(|(container, words)| {
                words.iter().any(|word| word == "operator")
                    && (is_ours || is_quinistry(&text(&container["image"])))
            })?;
        debug_assert!(container.is_object());
        let value = |flag: &str| {
            let mut words = arguments.iter();
            words.find_map(|word| word.strip_prefix(&format!("{flag}="))).map(str::to_owned)
        };
        let elects = arguments.iter().any(|word| word == "--leader-elect" || word == "--leader-elect=true");
        Some(Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            release: metadata["annotations"][HELM_RELEASE].as_str().map(str::to_owned),
            lease: elects.then(|| value("--lease-name").unwrap_or_else(|| OPERATOR.into())),
            replicas: spec["replicas"].as_i64().unwrap_or(1),
            available: deployment["status"]["availableReplicas"].as_i64().unwrap_or_default(),
            arguments,
        })
    }

    /// Returns true if the operator reconciles the resources of a namespace.
    pub(super) fn looks_after(&self, namespace: &str) -> bool {
        naming::looks_after(&self.arguments, namespace)
    }

    /// Returns true if the operator is the one that `up` installs for a namespace.
    pub(super) fn is_of_up(&self, namespace: &str) -> bool {
        self.name == OPERATOR && self.namespace == operator_namespace(namespace)
    }

    /// Formats the operator for a sentence: `operator kitchen/shelf-operator (Helm release shelf)`.
    pub(super) fn display_name(&self) -> String {
        let release = self.release.as_ref().map(|release| format!(" (Helm release {release})"));
        format!("operator {}/{}{}", self.namespace, self.name, release.unwrap_or_default())
    }
}

/// Returns true if an image reference names a repository `quinistry`.
fn is_quinistry(image: &str) -> bool {
    let image = image.split('@').next().unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(':').next() == Some("quinistry")
}

/// Returns true if a Lease is held and was renewed in time, by the clock `now`.
pub(super) fn is_fresh(lease: &Value, now: Timestamp) -> bool {
    let spec = &lease["spec"];
    if holder(lease).is_none() {
        return false;
    }
    let renewed = spec["renewTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let duration =
        SignedDuration::from_secs(spec["leaseDurationSeconds"].as_i64().unwrap_or(DEFAULT_LEASE_SECONDS));
    renewed.is_some_and(|renewed| now.duration_since(renewed).abs() <= duration + LEASE_GRACE)
}

/// Returns the holder of a Lease that was not given back.
pub(super) fn holder(lease: &Value) -> Option<&str> {
    lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty())
}

/// Judges the operator that writes the status of resources in a namespace by three life signs: Deployments of
/// operators for the namespace, the Leases of their elections (`None` for an operator without election), and
/// the claim. A process without a Deployment renews the claim as well. The bool of the claim is true if it is
/// renewed.
pub(super) fn judge(
    claim: Option<(&Value, bool)>,
    operators: Option<&[(OperatorDeployment, Option<bool>)]>,
    namespace: &str,
) -> StatusWriter {
    let gone = |message: String| StatusWriter { state: WriterState::Gone, message };
    let alive = StatusWriter { state: WriterState::Alive, message: String::new() };
    let claim = claim.and_then(|(claim, is_alive)| Some((claim, holder(claim)?, is_alive)));
    let all: Vec<_> =
        operators.unwrap_or_default().iter().filter(|(one, _)| one.looks_after(namespace)).collect();
    let is_alive =
        |(one, lease): &&(OperatorDeployment, Option<bool>)| one.available > 0 && *lease != Some(false);
    // A holder is named NAMESPACE/NAME after its operator.
    let holder_namespace = claim.and_then(|(_, holder, _)| Some(holder.split_once('/')?.0));
    let mut of_holder =
        all.iter().copied().filter(|(one, _)| Some(one.namespace.as_str()) == holder_namespace).peekable();
    if of_holder.peek().is_some() {
        if of_holder.any(|one| is_alive(&one)) {
            return alive;
        }
    } else if let Some((claim, holder, is_renewed)) = claim {
        if is_renewed {
            return alive;
        }
        if !all.iter().any(is_alive) {
            let since = claim["spec"]["renewTime"].as_str().unwrap_or("an unknown time");
            return gone(format!("{holder} has not renewed its claim since {since}"));
        }
    }
    if operators.is_none() {
        return StatusWriter::default();
    }
    if claim.is_none_or(|(.., is_renewed)| !is_renewed) && all.iter().any(is_alive) {
        return alive;
    }
    let suspect = all
        .iter()
        .find(|(one, _)| holder_namespace.is_none_or(|namespace| one.namespace == namespace))
        .or(all.first());
    gone(match suspect {
        None => format!("no operator looks after namespace {namespace}"),
        Some((one, _)) if one.replicas == 0 => format!("{} is scaled to 0 replicas", one.display_name()),
        Some((one, _)) if one.available == 0 => format!("{} has no available pod", one.display_name()),
        Some((one, _)) => format!("{} does not renew its Lease", one.display_name()),
    })
}

/// Lists the operators of the cluster; `None` without the permission. (Client required.)
pub(super) async fn list(cluster: &Cluster) -> Result<Option<Vec<OperatorDeployment>>, InstallError> {
    // Deployments of the chart and of `up` have this label.
    let selector = format!("{}=operator", labels::APP_COMPONENT);
    match cluster.list::<Value>(DEPLOYMENT, "", &selector).await {
        Ok(all) => Ok(Some(all.iter().filter_map(OperatorDeployment::of).collect())),
        Err(error) if error.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the claim on a namespace's resources; `None` without a claim, or without the permission. (Client
/// required.)
pub(super) async fn claim(cluster: &Cluster, namespace: &str) -> Result<Option<Value>, InstallError> {
    lease(cluster, namespace, CLAIM).await
}

/// Reads a Lease; `None` without a Lease, or without the permission. (Client required.)
pub(super) async fn lease(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, InstallError> {
    match cluster.get(LEASE, namespace, name).await {
        Err(error) if error.is_forbidden() => Ok(None),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(name: &str, image: &str, args: &[&str], available: i64) -> Value {
        json!({
            "metadata": {"namespace": "kitchen", "name": "shelf-operator",
                "labels": {"app.kubernetes.io/name": name}, "annotations": {"meta.helm.sh/release-name": "shelf"}},
            "spec": {"template": {"spec": {"containers": [{"image": image, "args": args}]}}},
            "status": {"availableReplicas": available},
        })
    }

    fn operator(args: &[&str], available: i64) -> OperatorDeployment {
        OperatorDeployment::of(&deployment("quinistry", "a/b:1", args, available)).unwrap()
    }

    fn lease(holder: &str, renewed: &str) -> Value {
        json!({"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 12}})
    }

    #[test]
    fn operators_are_known_by_label_or_image_and_their_command() {
        let known =
            |name, image, args: &[&str]| OperatorDeployment::of(&deployment(name, image, args, 1)).is_some();
        assert!(known("quinistry", "a/b:1", &["operator"]));
        assert!(known("renamed", "ghcr.io/q/quinistry:1@sha256:a", &["operator"]));
        assert!(known("renamed", "localhost:5000/quinistry", &["operator"]));
        assert!(!known("cilium", "quay.io/cilium/operator:1", &["operator"]));
        assert!(!known("quinistry", "a/b:1", &["serve"]));
        let one = operator(&["operator", "--namespace=pantry", "--leader-elect", "--lease-name=l"], 1);
        assert_eq!(one.lease.as_deref(), Some("l"));
        assert!(one.looks_after("pantry") && !one.looks_after("cellar") && !one.is_of_up("pantry"));
        assert_eq!(one.display_name(), "operator kitchen/shelf-operator (Helm release shelf)");
    }

    #[test]
    fn a_renewed_claim_is_a_life_sign_and_a_dead_deployment_of_its_holder_is_not() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        assert!(is_fresh(&lease("cook", "2026-01-01T11:59:50.123456Z"), now));
        assert!(!is_fresh(&lease("cook", "2026-01-01T11:59:40.000000Z"), now));
        assert!(!is_fresh(&lease("", "2026-01-01T12:00:00.000000Z"), now));
        let claim = lease("kitchen/l", "2026-01-01T11:00:00.000000Z");
        let judged = |is_renewed, operators: Option<&[(OperatorDeployment, Option<bool>)]>| {
            judge(Some((&claim, is_renewed)), operators, "pantry")
        };
        // A process without a Deployment, or whose Deployment may not be listed.
        assert_eq!(judged(true, None).state, WriterState::Alive);
        assert_eq!(judged(true, Some(&[])).state, WriterState::Alive);
        for operators in [None, Some(&[][..])] {
            let gone = judged(false, operators);
            assert!(
                gone.message.contains("kitchen/l has not renewed its claim since 2026-01-01T11"),
                "{gone:?}"
            );
        }
        let operator = |available, is_leading| [(operator(&["operator"], available), is_leading)];
        assert_eq!(judged(true, Some(&operator(0, None))).state, WriterState::Gone);
        assert_eq!(judged(true, Some(&operator(1, Some(false)))).state, WriterState::Gone);
        assert_eq!(judged(false, Some(&operator(1, Some(true)))).state, WriterState::Alive);
        // The Deployment of another namespace says nothing about a holder that is alive.
        let other =
            [(OperatorDeployment { namespace: "attic".into(), ..self::operator(&["operator"], 0) }, None)];
        assert_eq!(judged(true, Some(&other)).state, WriterState::Alive);
        assert_eq!(judged(false, Some(&other)).state, WriterState::Gone);
    }

    #[test]
    fn without_a_claim_deployments_and_leases_tell() {
        let judged =
            |operators: &[(OperatorDeployment, Option<bool>)]| judge(None, Some(operators), "pantry");
        assert_eq!(judged(&[(operator(&["operator"], 1), None)]).state, WriterState::Alive);
        assert_eq!(judged(&[(operator(&["operator"], 1), Some(true))]).state, WriterState::Alive);
        assert!(judged(&[(operator(&["operator"], 1), Some(false))]).message.contains("does not renew"));
        assert!(judged(&[(operator(&["operator"], 0), None)]).message.contains("no available pod"));
        assert!(judged(&[]).message.contains("no operator looks after namespace pantry"));
        let elsewhere = [(operator(&["operator", "--namespace=cellar"], 1), None)];
        assert_eq!(judged(&elsewhere).state, WriterState::Gone);
        let idle = OperatorDeployment { replicas: 0, ..operator(&["operator"], 0) };
        assert!(judged(&[(idle, None)]).message.contains("scaled to 0"));
        assert_eq!(judge(None, None, "pantry").state, WriterState::Unknown);
    }
}
