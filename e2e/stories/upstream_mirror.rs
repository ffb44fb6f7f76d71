//! Kubelets pull an image by the name of its own registry, which a quinistry mirrors: from that registry through the
//! quinistry, then while the registry is away, and after the quinistry was killed in the meantime. Each time no node
//! has the image.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use super::support::node_process::NodeProcess;
use super::support::registry_release::folder;
use super::support::{Node, Stage, Story, When, daemon_sets, shell, wait};

const DEADLINE: Duration = Duration::from_mins(4);

/// Host in the name of the image. No machine resolves it, so that nodes reach the mirror alone.
const ORIGIN: &str = "upstream.example.com";

const REPOSITORY: &str = "team/app";

/// Number of blobs of the image: a configuration and a layer.
const BLOBS: usize = 2;

/// Configuration of the upstream, which is distribution.
const UPSTREAM: &str = "version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/upstream'}}
http: {addr: '{upstream}'}
";

/// Configuration of the mirror, which asks the upstream for a tag each time.
const MIRROR: &str = "version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/mirror'}}
http: {addr: '{mirror}'}
quinistry:
  upstreams:
  - {prefix: '{origin}', ns: ['{origin}'], remoteurl: 'http://{upstream}', insecure: true, ttl: 0s}
";

pub fn story() -> Story {
    Story {
        name: "upstream_mirror",
        when: When::Together,
        operator: true,
        play: |stage| Box::pin(play(stage)),
    }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let Some(program) = std::env::var_os("QUINISTRY_E2E_DISTRIBUTION") else {
        stage.skip("distribution is not built; .ci/tools builds it");
        return Ok(());
    };
    let files = tempfile::tempdir()?;
    let registries = Registries::prepare(&stage, program.as_ref(), files.path()).await?;
    let result = pull_three_times(&stage, &registries, files.path()).await;
    for node in &stage.world.nodes {
        let _ = node.run(&["rm", "-rf", &hosts_folder(&**node)]).await;
    }
    let log = registries.node.run(&["tail", "-n", "40", &registries.mirror.log]).await.unwrap_or_default();
    let _ = registries.node.run(&["rm", "-rf", &registries.folder]).await;
    result.with_context(|| format!("log of the mirror:\n{log}"))
}

async fn pull_three_times(stage: &Stage, registries: &Registries<'_>, files: &Path) -> Result<()> {
    let upstream = registries.upstream.start(registries.node).await?;
    let mirror = registries.mirror.start(registries.node).await?;
    let digest = registries.push(stage, files).await?;
    for node in &stage.world.nodes {
        registries.write_mirror_files(stage, &**node).await?;
    }

    pull(stage, registries, &digest).await?;
    let fetched = registries.upstream.blobs_sent(registries.node).await?;
    ensure!(fetched == BLOBS, "the upstream sent {fetched} blobs, not each of {BLOBS} once");
    stage.log("all nodes pulled through the mirror; the upstream sent each blob once");

    upstream.kill().await?;
    pull(stage, registries, &digest).await?;
    stage.log("all nodes pulled again, without the upstream");

    mirror.kill().await?;
    let mirror = registries.mirror.start(registries.node).await?;
    pull(stage, registries, &digest).await?;
    mirror.kill().await?;
    stage.log("all nodes pulled again, from a mirror that was killed and started without the upstream");
    Ok(())
}

/// Has the kubelets of all nodes pull and run the image, checks that the mirror sent it to each of them, and removes it
/// from the nodes.
async fn pull(stage: &Stage, registries: &Registries<'_>, digest: &str) -> Result<()> {
    let before = registries.mirror.blobs_sent(registries.node).await?;
    stage.daemon_sets().create(&PostParams::default(), &daemon_set()?).await?;
    daemon_sets::until_rolled_out(stage, NAME, DEADLINE).await?;
    for pod in stage.pods().list(&ListParams::default()).await? {
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let image = &statuses.first().context("a pod has a container")?.image_id;
        let expected = format!("{ORIGIN}/{REPOSITORY}@{digest}");
        ensure!(*image == expected, "a kubelet runs {image}, not {expected}");
    }
    let least = BLOBS * stage.world.nodes.len();
    wait::eventually(Duration::from_secs(20), "the mirror has logged what it sent", || async {
        let sent = registries.mirror.blobs_sent(registries.node).await? - before;
        ensure!(sent >= least, "the mirror sent {sent} blobs, fewer than {least}");
        Ok(())
    })
    .await?;

    stage.daemon_sets().delete(NAME, &DeleteParams::background()).await?;
    stage.until_empty(Duration::from_mins(1)).await?;
    try_join_all(stage.world.nodes.iter().map(|node| remove_image(&**node, digest))).await.map(drop)
}

const NAME: &str = "mirrored";

fn daemon_set() -> Result<DaemonSet> {
    let labels = json!({"story-daemon-set": NAME});
    let set = json!({
        "metadata": {"name": NAME},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "app",
                        "image": format!("{ORIGIN}/{REPOSITORY}:1"),
                        "imagePullPolicy": "Always",
                        "readinessProbe": {"httpGet": {"path": "/v2/", "port": 8080}, "periodSeconds": 1},
                    }],
                },
            },
        },
    });
    Ok(serde_json::from_value(set)?)
}

/// Removes the image from a node under all its names, once no container is made of it, so that its content goes too.
async fn remove_image(node: &dyn Node, digest: &str) -> Result<()> {
    let ctr = node.ctr();
    let run = async |words: &[&str]| {
        let words: Vec<&str> = ctr.iter().map(String::as_str).chain(words.iter().copied()).collect();
        node.run(&words).await
    };
    let image = format!("image=={ORIGIN}/{REPOSITORY}:1");
    wait::eventually(DEADLINE, "no container of the image is left", || async {
        ensure!(run(&["containers", "list", "-q", &image]).await?.is_empty(), "there are containers");
        Ok(())
    })
    .await?;
    let names = run(&["images", "list", "-q", &format!("target.digest=={digest}")]).await?;
    ensure!(names.contains(ORIGIN), "the node has no image of {ORIGIN}: {names}");
    let remove: Vec<&str> = ["images", "remove", "--sync"].into_iter().chain(names.lines()).collect();
    run(&remove).await.map(drop)
}

/// Returns the folder of the files by which a node's containerd finds the mirror.
fn hosts_folder(node: &dyn Node) -> String {
    Path::new(&node.containerd_root())
        .join("etc/containerd/certs.d")
        .join(ORIGIN)
        .to_string_lossy()
        .into_owned()
}

/// Both registries, on one node.
struct Registries<'a> {
    node: &'a dyn Node,
    /// Folder of the node with the content of both and their logs.
    folder: String,
    upstream: Registry,
    mirror: Registry,
}

impl<'a> Registries<'a> {
    /// Writes the configurations of both registries, without starting them.
    async fn prepare(stage: &'a Stage, distribution: &Path, files: &Path) -> Result<Self> {
        let node = &**stage.world.nodes.last().context("a cluster has nodes")?;
        let (folder, address) = (folder(stage), stage.world.address_of(node).await?);
        node.run(&["mkdir", "-p", &folder]).await?;
        let port = stage.base_port + 20;
        let (upstream, mirror) = (format!("{address}:{port}"), format!("{address}:{}", port + 1));
        let values = [("{folder}", folder.as_str()), ("{origin}", ORIGIN), ("{upstream}", &upstream)];
        let values = [&values[..], &[("{mirror}", &mirror)]].concat();
        let configured = async |name: &str, program: &Path, address: &str, config: &str| {
            let file = files.join(format!("{name}-{}.yml", stage.namespace));
            let text =
                values.iter().fold(config.to_owned(), |text, (place, value)| text.replace(place, value));
            std::fs::write(&file, text)?;
            anyhow::Ok(Registry {
                program: node.copy(program).await?,
                config: node.copy(&file).await?,
                log: format!("{folder}/{name}.log"),
                address: address.to_owned(),
            })
        };
        let upstream = configured("upstream", distribution, &upstream, UPSTREAM).await?;
        let mirror = configured("mirror", &stage.world.first.path, &mirror, MIRROR).await?;
        Ok(Self { node, folder, upstream, mirror })
    }

    /// Pushes an image to the upstream that no node has, and returns its digest.
    async fn push(&self, stage: &Stage, files: &Path) -> Result<String> {
        let program = files.join(format!("{}-app", stage.namespace));
        std::fs::copy(&stage.world.first.path, &program)?;
        std::fs::OpenOptions::new().append(true).open(&program)?.write_all(stage.namespace.as_bytes())?;
        let digest = shell::text(shell::command([&*program.to_string_lossy(), "image", "digest"])).await?;
        let program = self.node.copy(&program).await?;
        let image = format!("{}/{REPOSITORY}:1", self.upstream.address);
        self.node.run(&[&program, "push", "--self", &image, "--plain-http"]).await?;
        Ok(digest)
    }

    /// Writes the files by which a node's containerd asks the mirror alone for images of the upstream.
    async fn write_mirror_files(&self, stage: &Stage, node: &dyn Node) -> Result<()> {
        let (program, mirror) =
            (node.copy(&stage.world.first.path).await?, format!("http://{}", self.mirror.address));
        let root = node.containerd_root();
        let words = [&program, "mirrors", "containerd", &mirror, ORIGIN, "--no-fallback", "--write", &root];
        node.run(&words).await.map(drop)
    }
}

/// A registry's program on a node, with a configuration.
struct Registry {
    program: String,
    config: String,
    log: String,
    address: String,
}

impl Registry {
    /// Starts the registry, and waits until it answers.
    async fn start(&self, node: &dyn Node) -> Result<NodeProcess> {
        let words = ["env", "OTEL_TRACES_EXPORTER=none", &self.program, "serve", &self.config];
        let process = NodeProcess::start(node, &words, &self.log)?;
        let url = format!("http://{}/v2/", self.address);
        let ask = ["curl", "-sf", "-o", "/dev/null", &url];
        wait::eventually(Duration::from_secs(20), &format!("{url} answers"), || node.run(&ask)).await?;
        Ok(process)
    }

    /// Returns the number of blobs that the registry has sent, by its access log.
    async fn blobs_sent(&self, node: &dyn Node) -> Result<usize> {
        let script = r#"grep -cE '"GET /v2/[^ ]+/blobs/[^ ]+ HTTP/1.1" 20[06] ' "$0" || true"#;
        let count = node.run(&["sh", "-c", script, &self.log]).await?;
        count.parse().with_context(|| format!("not a number: {count}"))
    }
}
