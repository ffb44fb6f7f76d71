//! An application of two images: made on this machine, carried in one file, and loaded into a cluster.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::process::Process;
use super::{Node, Stage, daemon_sets, shell, wait};

/// Paths of the application's images.
pub const IMAGES: [&str; 2] = ["acme/shop", "acme/cart"];

const DEADLINE: Duration = Duration::from_mins(4);

/// Registry that only this machine reaches, with versions of the application.
pub struct Elsewhere {
    program: PathBuf,
    address: String,
    folder: tempfile::TempDir,
    _registry: Process,
}

/// A version of the application in one file.
pub struct Carried {
    pub file: PathBuf,
    pub version: String,
    /// Host of the images' names, as paths have it.
    host: String,
}

impl Elsewhere {
    /// Starts the registry on a port of the cluster's control plane.
    pub async fn start(stage: &Stage) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = stage.world.first.path.clone();
        let address = format!("127.0.0.1:{}", stage.base_port + 25);
        let storage = folder.path().join("storage");
        let mut command = shell::command([text(&program)?, "serve", "--listen", &address, "--storage"]);
        command.arg(&storage);
        let registry = Process::start(&command, &folder.path().join("log"))?;
        let url = format!("http://{address}/v2/");
        wait::eventually(Duration::from_secs(30), "the registry elsewhere answers", || {
            shell::output(shell::command(["curl", "-sf", &url]))
        })
        .await?;
        Ok(Self { program, address, folder, _registry: registry })
    }

    /// Stops the registry. The files stay until the returned guard is dropped.
    pub fn close(self) -> tempfile::TempDir {
        self.folder
    }

    /// Makes a version of the application, and writes it to a file. The images run as quinistry does; each differs from
    /// all others in its last bytes.
    pub async fn carry(&self, stage: &Stage, version: &str) -> Result<Carried> {
        let file = self.folder.path().join(format!("shop-{version}.tar"));
        let mut names = Vec::new();
        for image in IMAGES {
            let other = self.folder.path().join("image");
            std::fs::copy(&self.program, &other)?;
            let mut bytes = std::fs::OpenOptions::new().append(true).open(&other)?;
            write!(bytes, "{image}:{version} of {}", stage.namespace)?;
            drop(bytes);
            let name = format!("{}/{image}:{version}", self.address);
            shell::output(shell::command([text(&other)?, "push", "--self", &name])).await?;
            names.push(name);
        }
        let words = [text(&self.program)?, "bundle", text(&file)?];
        shell::output(shell::command(words.into_iter().chain(names.iter().map(String::as_str)))).await?;
        Ok(Carried { file, version: version.into(), host: self.address.replace(':', "_") })
    }
}

impl Carried {
    /// Loads the file into the store of a resource through a port-forward, and returns the `Bundle` with its names.
    pub async fn load(&self, stage: &Stage, resource: &str, bundle: &str) -> Result<Value> {
        let program = text(&stage.world.first.path)?;
        let bundle = format!("--bundle={bundle}");
        let place = ["-n", &stage.namespace, "--name", resource, &bundle];
        let words = [program, "load", text(&self.file)?].into_iter().chain(place);
        let yaml = shell::text(shell::command(words)).await?;
        let manifest: Value =
            serde_saphyr::from_str(&yaml).with_context(|| format!("not a Bundle: {yaml}"))?;
        Ok(manifest)
    }

    /// Returns the reference of one of the images on a port of each node's localhost.
    pub fn image(&self, port: i32, image: &str) -> String {
        format!("localhost:{port}/{}/{image}:{}", self.host, self.version)
    }

    /// Runs all images on all nodes, pulled from a port of each node's localhost, and waits until they are ready.
    pub async fn run(&self, stage: &Stage, port: i32) -> Result<()> {
        for image in IMAGES {
            let name = image.replace('/', "-");
            let set = self.daemon_set(&name, &self.image(port, image));
            let parameters = kube::api::PatchParams::apply("story").force();
            stage.daemon_sets().patch(&name, &parameters, &kube::api::Patch::Apply(&set)).await?;
        }
        for image in IMAGES {
            let name = image.replace('/', "-");
            daemon_sets::until_rolled_out_on(stage, &name, stage.world.node_count(), DEADLINE).await?;
        }
        Ok(())
    }

    fn daemon_set(&self, name: &str, image: &str) -> Value {
        let labels = json!({"story": name});
        json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
                "template": {
                    "metadata": {"labels": labels, "annotations": {"version": self.version}},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 1,
                        "tolerations": [{"operator": "Exists"}],
                        "containers": [{
                            "name": "app", "image": image, "imagePullPolicy": "Always",
                            "readinessProbe": {"httpGet": {"path": "/v2/", "port": 8080}, "periodSeconds": 1},
                        }],
                    },
                },
            },
        })
    }
}

/// Returns the digest that a node's localhost answers for an image.
pub async fn answered_digest(node: &dyn Node, image: &str) -> Result<String> {
    let (place, tag) = image.rsplit_once(':').context("an image has a tag")?;
    let (host, path) = place.split_once('/').context("an image has a host")?;
    let url = format!("http://{host}/v2/{path}/manifests/{tag}");
    let bytes = shell::output(node.command(&["curl", "-sSf", "-m", "20", &url])).await?;
    Ok(quinistry::oci::Digest::sha256(&bytes).to_string())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a plain path")
}
