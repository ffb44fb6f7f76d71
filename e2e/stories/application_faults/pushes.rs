//! The right to push into a store: users with the right to forward ports to its pods, and nothing else in the cluster.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::application::{Carried, only_error, parse_bundle, store_pods};
use crate::support::kubeconfig::Kubeconfig;
use crate::support::{Node, Stage, outage, shell, wait};

const DEADLINE: std::time::Duration = std::time::Duration::from_mins(2);
/// Account that may find the store, and not forward ports.
const ACCOUNT: &str = "deployer";
/// Port of a store that answers reads.
const READ_PORT: u16 = 8080;
/// Port of a store that takes pushes, on the loopback interface of its pod.
const PUSH_PORT: u16 = 8090;
/// Exit code of curl when no connection is made, by a refusal or for lack of an answer.
const NO_CONNECTION: [&str; 2] = ["7", "28"];

/// Tries to push from everywhere.
pub async fn check(stage: &Stage, resource: &str, carried: &Carried) -> Result<()> {
    let pods = store_pods(stage).await?;
    let pod = pods.first().context("a store is ready")?;
    let status = pod.status.as_ref().context("a ready pod has a status")?;
    let address = status.pod_ip.as_deref().context("a ready pod has an address")?;
    let home = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).context("a pod has a node")?;
    let home = stage.world.node(home)?;
    let other = stage.world.nodes.iter().find(|node| node.name() != home.name());
    let other = &**other.context("the cluster has another node")?;

    for node in [home, other] {
        let code = upload(node, &format!("{address}:{PUSH_PORT}")).await?;
        ensure!(code == "000", "{} reaches the listener for pushes of {address}: {code}", node.name());
        for place in [format!("{address}:{READ_PORT}"), format!("localhost:{}", stage.base_port)] {
            let code = upload(node, &place).await?;
            ensure!(code == "405", "an upload from {} to {place} is answered by {code}", node.name());
        }
    }
    push_from_pod(stage, address).await?;
    load_as_user(stage, resource, carried).await
}

/// Asks for an upload session, and returns the status of the answer, `000` if there is no connection.
async fn upload(node: &dyn Node, place: &str) -> Result<String> {
    let script = "curl -s -m 5 -o /dev/null -w '%{http_code}' -X POST \"$0\"; echo \" $?\"";
    let url = format!("http://{place}/v2/acme/shop/blobs/uploads/");
    let output = node.run(&["sh", "-c", script, &url]).await?;
    let (status, code) = output.split_once(' ').context("curl prints a status")?;
    let is_connected = !NO_CONNECTION.contains(&code);
    ensure!(is_connected == (status != "000"), "curl of {url} ended with {code}, {status}");
    Ok(status.to_owned())
}

/// Pushes to both ports from another pod of the same namespace.
async fn push_from_pod(stage: &Stage, address: &str) -> Result<()> {
    let container = |name: &str, port: u16| {
        json!({
            "name": name,
            "image": stage.world.first.image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["push", "--self", format!("{address}:{port}/acme/shop:pushed"), "--plain-http"],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        })
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pusher"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container("loopback", PUSH_PORT), container("reads", READ_PORT)],
        },
    });
    stage.pods().patch("pusher", &PatchParams::apply("story").force(), &Patch::Apply(&pod)).await?;
    let what = "both pushes of a pod have ended";
    let pod =
        wait::until(&stage.pods(), "pusher", DEADLINE, what, |pod| terminations(pod).len() == 2).await?;
    for (name, end) in terminations(&pod) {
        let message = end.message.unwrap_or_default();
        let expected = match name.as_str() {
            "reads" => message.contains("405"),
            _ => message.to_lowercase().contains("connect"),
        };
        ensure!(
            end.exit_code != 0 && expected,
            "the push from {name} ended with {}: {message}",
            end.exit_code
        );
        stage.log(format_args!("push from a pod, {name}: {}", message.trim()));
    }
    stage.pods().delete(&pod.name_any(), &kube::api::DeleteParams::default()).await?;
    Ok(())
}

fn terminations(pod: &Pod) -> Vec<(String, ContainerStateTerminated)> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = statuses.filter_map(|one| Some((one.name.clone(), one.state.as_ref()?.terminated.clone()?)));
    ended.collect()
}

/// Loads as a user who may find the store, first without the right to forward ports, then with it.
async fn load_as_user(stage: &Stage, resource: &str, carried: &Carried) -> Result<()> {
    let namespace = format!("--namespace={}", stage.namespace);
    let account = format!("--serviceaccount={}:{ACCOUNT}", stage.namespace);
    let grant = async |role: &str, verbs: &str, resources: &str| -> Result<()> {
        let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={resources}"));
        outage::kubectl(&["create", "role", role, &verbs, &resources, &namespace]).await?;
        let binding = ["create", "rolebinding", role, &format!("--role={role}"), &account, &namespace];
        outage::kubectl(&binding).await.map(drop)
    };
    outage::kubectl(&["create", "serviceaccount", ACCOUNT, &namespace]).await?;
    grant("find-store", "get,list", "quinistries.quinistry.dev,pods").await?;
    let token = outage::kubectl(&["create", "token", ACCOUNT, &namespace]).await?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    Kubeconfig::read()?.with_token(&token).write(&kubeconfig)?;
    let load = || -> Result<_> {
        let mut command = carried.load_command(stage, resource, "shop")?;
        command.env("KUBECONFIG", &kubeconfig);
        Ok(command)
    };
    let errors = shell::failure(load()?).await?;
    let line = only_error(&errors)?;
    ensure!(line.contains("pods/portforward"), "the error does not name the right: {line}");
    stage.log(line);
    grant("load", "get,create", "pods/portforward").await?;
    // The API server learns of a new right after a moment.
    let loaded = wait::eventually(DEADLINE, "the user may load", || async { shell::outputs(load()?).await });
    let (yaml, _) = loaded.await?;
    let bundle: Value = parse_bundle(&yaml)?;
    ensure!(bundle["kind"] == "Bundle", "the load prints {bundle}");
    Ok(())
}
