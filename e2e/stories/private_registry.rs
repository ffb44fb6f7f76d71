//! A registry with passwords in the cluster. A pod whose `imagePullSecret` is right runs an image from it, one
//! without or with a wrong secret is told why not, and a chain that begins with the private image goes on
//! without any login.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::support::pods::of_generation;
use super::support::{Node, Stage, Story, When, daemon_sets, serving, shell, wait};

const DEADLINE: Duration = Duration::from_mins(4);

const USER: &str = "kubelet";
const PASSWORD: &str = "kubelet-Rw8xQ";
/// [`PASSWORD`] by bcrypt.
const HASH: &str = "$2b$10$VZQ6U8/Y5A0BkTnqJqusD.J.uLXHb.YM03ZqibOTfb/19huaVbDTa";

const CONFIG: &str = "version: 0.1
storage: {filesystem: {rootdirectory: /store}}
http: {addr: ':8080'}
auth: {htpasswd: {realm: story, path: /etc/registry/htpasswd}}
";

pub fn story() -> Story {
    Story {
        name: "private_registry",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let node = &**stage.world.nodes.last().context("a cluster has nodes")?;
    let port = stage.base_port + 20;
    serve(&stage, node, port).await?;
    let (image, digest) = push(&stage, node, port).await?;

    let login = |user: &str, password: &str| {
        let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
        json!({"auths": {format!("localhost:{port}"): {"auth": auth}}}).to_string()
    };
    for (name, password) in [("right", PASSWORD), ("wrong", "kubelet-Nj3mL")] {
        let secret = json!({
            "metadata": {"name": name},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": login(USER, password)},
        });
        create_secret(&stage, &secret).await?;
    }

    for (name, secrets) in [("none", json!([])), ("wrong", json!([{"name": "wrong"}]))] {
        run(&stage, node, name, &image, &secrets).await?;
        let message = until_refused(&stage, name).await?;
        stage.log(format_args!("{name}: {message}"));
        ensure!(message.contains(&image), "{name}: the message does not name the image: {message}");
        ensure!(!message.contains("kubelet-"), "{name}: the message shows a password: {message}");
    }
    run(&stage, node, "right", &image, &json!([{"name": "right"}])).await?;
    daemon_sets::until_rolled_out_on(&stage, "right", 1, DEADLINE).await?;
    stage.log("a pod with the right secret runs");
    // The right secret of another pod does not help one that has none.
    until_refused(&stage, "none").await?;

    raise(&stage, node, &image, &digest).await
}

/// A chain of the private image: its first generation needs the secret, the others have none.
async fn raise(stage: &Stage, node: &dyn Node, image: &str, digest: &str) -> Result<()> {
    let mut resource = stage.resource("private", 3);
    resource["spec"]["image"] = json!(image);
    resource["spec"]["imagePullPolicy"] = json!("Always");
    resource["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node.name()});
    stage.apply(&resource).await?;
    let message =
        stage.until("private", "Progressing", "False", "BootstrapImagePullFailed", DEADLINE).await?;
    stage.log(&message);
    ensure!(is_refusal(&message), "the condition does not name the reason: {message}");

    resource["spec"]["imagePullSecrets"] = json!([{"name": "right"}]);
    stage.apply(&resource).await?;
    stage.until_ready("private", DEADLINE).await?;
    serving::check_node(node, stage.base_port..stage.base_port + 3, digest).await?;
    for generation in 1..=3 {
        for pod in stage.pods().list(&of_generation(generation)).await? {
            let secrets = pod.spec.and_then(|spec| spec.image_pull_secrets).map_or(0, |all| all.len());
            ensure!(secrets == usize::from(generation == 1), "generation {generation} has {secrets} secrets");
        }
    }
    Ok(())
}

/// Starts the registry: this image with a file of distribution's form, and a password.
async fn serve(stage: &Stage, node: &dyn Node, port: i32) -> Result<()> {
    let files = json!({
        "metadata": {"name": "registry"},
        "stringData": {"config.yml": CONFIG, "htpasswd": format!("{USER}:{HASH}\n")},
    });
    create_secret(stage, &files).await?;
    let container = json!({
        "name": "registry",
        "image": stage.world.first.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", "/etc/registry/config.yml"],
        "ports": [{"containerPort": 8080, "hostPort": port, "hostIP": "127.0.0.1"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "files", "mountPath": "/etc/registry", "readOnly": true},
            {"name": "store", "mountPath": "/store"},
        ],
    });
    let mut set = pinned(node, "registry", &container);
    set["spec"]["template"]["spec"]["securityContext"] = json!({"fsGroup": 65532});
    set["spec"]["template"]["spec"]["volumes"] = json!([
        {"name": "files", "secret": {"secretName": "registry"}},
        {"name": "store", "emptyDir": {}},
    ]);
    create(stage, set).await?;
    daemon_sets::until_rolled_out_on(stage, "registry", 1, DEADLINE).await.map(drop)
}

/// Pushes an image that no node has, with the password and, which must fail, without. Returns the image's name
/// and digest.
async fn push(stage: &Stage, node: &dyn Node, port: i32) -> Result<(String, String)> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join(format!("{}-private", stage.namespace));
    std::fs::copy(&stage.world.first.path, &program)?;
    std::fs::OpenOptions::new().append(true).open(&program)?.write_all(stage.namespace.as_bytes())?;
    let digest = shell::text(shell::command([&*program.to_string_lossy(), "image", "digest"])).await?;
    let logins = folder.path().join("config.json");
    let auth = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    std::fs::write(&logins, json!({"auths": {format!("localhost:{port}"): {"auth": auth}}}).to_string())?;
    let (program, logins) = (node.copy(&program).await?, node.copy(&logins).await?);
    let (with, _) = logins.rsplit_once('/').context("an absolute path")?;
    let image = format!("localhost:{port}/team/private:1");
    let push = |folder: &str| {
        let variable = format!("DOCKER_CONFIG={folder}");
        node.command(&["env", &variable, &program, "push", "--self", &image])
    };
    let refused = shell::output(push("/nonexistent")).await;
    ensure!(refused.is_err_and(|error| is_refusal(&format!("{error:#}"))), "a push without a password");
    shell::output(push(with)).await?;
    Ok((image, digest))
}

/// Runs an image on the node that the registry is on.
async fn run(stage: &Stage, node: &dyn Node, name: &str, image: &str, secrets: &Value) -> Result<()> {
    let container = json!({
        "name": "quinistry",
        "image": image,
        "imagePullPolicy": "Always",
        "readinessProbe": {"httpGet": {"path": "/v2/", "port": 8080}, "periodSeconds": 1},
    });
    let mut set = pinned(node, name, &container);
    set["spec"]["template"]["spec"]["imagePullSecrets"] = secrets.clone();
    create(stage, set).await
}

/// A `DaemonSet` for one node.
fn pinned(node: &dyn Node, name: &str, container: &Value) -> Value {
    let labels = json!({STORY: name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 5,
                    "tolerations": [{"operator": "Exists"}],
                    "nodeSelector": {"kubernetes.io/hostname": node.name()},
                    "containers": [container],
                },
            },
        },
    })
}

/// Label with the name of a `DaemonSet` of this story.
const STORY: &str = "story-daemon-set";

async fn create(stage: &Stage, set: Value) -> Result<()> {
    stage.daemon_sets().create(&PostParams::default(), &serde_json::from_value(set)?).await?;
    Ok(())
}

async fn create_secret(stage: &Stage, secret: &Value) -> Result<()> {
    let api = Api::<Secret>::namespaced(stage.world.client.clone(), &stage.namespace);
    api.create(&PostParams::default(), &serde_json::from_value(secret.clone())?).await?;
    Ok(())
}

/// Waits until the kubelet backs off because the registry refused it. Returns the message.
async fn until_refused(stage: &Stage, name: &str) -> Result<String> {
    let message = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let waiting = statuses.first()?.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.clone().unwrap_or_default();
        (reason == "ImagePullBackOff" && is_refusal(&message)).then_some(message)
    };
    let selection = ListParams::default().labels(&format!("{STORY}={name}"));
    let what = format!("{name} waits in ImagePullBackOff, with the registry's refusal as its message");
    let refused = |pods: &[Pod]| pods.first().is_some_and(|pod| message(pod).is_some());
    let pods = wait::until_all(&stage.pods(), &selection, DEADLINE, &what, refused).await?;
    pods.first().and_then(message).context("the wait ended with a message")
}

/// Returns true if a message says that credentials are missing or wrong.
fn is_refusal(message: &str) -> bool {
    ["401", "authorization failed", "unauthorized", "requires credentials", "no basic auth credentials"]
        .iter()
        .any(|words| message.to_lowercase().contains(words))
}
