//! An application of two images: made on this machine, carried in one file, and loaded into a cluster.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::process::Command;

use super::pods::is_ready;
use super::process::Process;
use super::random::SeededRandom;
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
    pub images: Vec<CarriedImage>,
    /// Host of the images' names, as paths have it.
    host: String,
}

/// One image of a version.
pub struct CarriedImage {
    /// Path of the name, without host and tag.
    pub path: String,
    pub digest: String,
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
        self.carry_padded(stage, version, &IMAGES, 0).await
    }

    /// Makes a version of some images, the first of them with a number of random bytes at its end.
    pub async fn carry_padded(
        &self,
        stage: &Stage,
        version: &str,
        paths: &[&str],
        padding: usize,
    ) -> Result<Carried> {
        let file = self.folder.path().join(format!("shop-{version}.tar"));
        let (mut names, mut images) = (Vec::new(), Vec::new());
        for (position, path) in paths.iter().enumerate() {
            let other = self.folder.path().join("image");
            std::fs::copy(&self.program, &other)?;
            let mut bytes = std::fs::OpenOptions::new().append(true).open(&other)?;
            write!(bytes, "{path}:{version} of {}", stage.namespace)?;
            if position == 0 {
                let (mut random, _) = SeededRandom::new();
                bytes
                    .write_all(&std::iter::repeat_with(|| random.byte()).take(padding).collect::<Vec<_>>())?;
            }
            drop(bytes);
            let name = format!("{}/{path}:{version}", self.address);
            shell::output(shell::command([text(&other)?, "push", "--self", &name])).await?;
            let digest = shell::text(shell::command([text(&other)?, "image", "digest"])).await?;
            images.push(CarriedImage { path: (*path).to_owned(), digest });
            names.push(name);
        }
        let words = [text(&self.program)?, "bundle", text(&file)?];
        shell::output(shell::command(words.into_iter().chain(names.iter().map(String::as_str)))).await?;
        Ok(Carried { file, version: version.into(), images, host: self.address.replace(':', "_") })
    }
}

impl Carried {
    /// Builds the command that loads the file into the store of a resource through a port-forward, and prints the
    /// `Bundle` with its names.
    pub fn load_command(&self, stage: &Stage, resource: &str, bundle: &str) -> Result<Command> {
        let program = text(&stage.world.first.path)?;
        let bundle = format!("--bundle={bundle}");
        let place = ["-n", &stage.namespace, "--name", resource, &bundle];
        Ok(shell::command([program, "load", text(&self.file)?].into_iter().chain(place)))
    }

    /// Loads the file into the store of a resource, and returns the `Bundle` with its names.
    pub async fn load(&self, stage: &Stage, resource: &str, bundle: &str) -> Result<Value> {
        let yaml = shell::text(self.load_command(stage, resource, bundle)?).await?;
        parse_bundle(&yaml)
    }

    /// Checks that the store of a resource has all images: another load sends no byte of a blob.
    pub async fn check_loaded(&self, stage: &Stage, resource: &str) -> Result<()> {
        let mut command = self.load_command(stage, resource, "unused")?;
        command.args(["--output", "json"]);
        let report: Value = serde_json::from_str(&shell::text(command).await?)?;
        ensure!(report["sentBytes"] == 0, "a second load has sent bytes: {report}");
        Ok(())
    }

    /// Returns the repository and the digest of each image, as nodes serve them.
    pub fn roots(&self) -> Vec<(String, String)> {
        self.images.iter().map(|image| (self.repository(&image.path), image.digest.clone())).collect()
    }

    /// Returns the name of one of the images in the registry that it comes from.
    pub fn origin(&self, path: &str) -> String {
        format!("{}/{path}:{}", self.host.replace('_', ":"), self.version)
    }

    /// Returns the repository of one of the images, as nodes serve it.
    pub fn repository(&self, path: &str) -> String {
        format!("{}/{path}", self.host)
    }

    /// Returns the reference of one of the images on a port of each node's localhost.
    pub fn image(&self, port: i32, image: &str) -> String {
        format!("localhost:{port}/{}/{image}:{}", self.host, self.version)
    }

    /// Runs all images on all nodes, pulled from a port of each node's localhost, and waits until they are ready.
    pub async fn run(&self, stage: &Stage, port: i32) -> Result<()> {
        self.run_on(stage, port, &json!({}), stage.world.node_count()).await
    }

    /// Runs all images on the `count` nodes of a selector, and waits until they are ready.
    pub async fn run_on(&self, stage: &Stage, port: i32, selector: &Value, count: i32) -> Result<()> {
        for image in &self.images {
            let name = image.path.replace('/', "-");
            let set = self.daemon_set(&name, &self.image(port, &image.path), selector);
            let parameters = kube::api::PatchParams::apply("story").force();
            stage.daemon_sets().patch(&name, &parameters, &kube::api::Patch::Apply(&set)).await?;
        }
        for image in &self.images {
            let name = image.path.replace('/', "-");
            daemon_sets::until_rolled_out_on(stage, &name, count, DEADLINE).await?;
        }
        Ok(())
    }

    fn daemon_set(&self, name: &str, image: &str, selector: &Value) -> Value {
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
                        "nodeSelector": selector,
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

/// Builds a resource of two generations whose stores keep `copies` of each image, in a folder of the stage.
pub fn store_resource(stage: &Stage, name: &str, copies: usize) -> Value {
    let mut resource = stage.resource(name, 2);
    resource["spec"]["digest"] = json!(stage.world.first.digest);
    resource["spec"]["store"] = json!({"copies": copies, "path": store_folder(stage)});
    resource
}

/// Replaces the quinistry of a resource by the second one, and waits until its generations and stores run that.
pub async fn upgrade_quinistry(stage: &Stage, resource: &mut Value) -> Result<()> {
    let second = &stage.world.second;
    resource["spec"]["image"] = json!(second.image);
    resource["spec"]["digest"] = json!(second.digest);
    stage.apply(resource).await?;
    let name = resource["metadata"]["name"].as_str().context("a resource has a name")?;
    let ready = stage.until_ready(name, DEADLINE).await?;
    let digest = ready.status.context("a Ready resource has a status")?.digest;
    ensure!(digest.as_ref() == Some(&second.digest), "the status says {digest:?}");
    stage.until(name, "StoreReady", "True", "StoresReady", DEADLINE).await?;
    Ok(())
}

/// Returns the folder of the stage's stores on the disk of each node.
pub fn store_folder(stage: &Stage) -> String {
    format!("/var/lib/quinistry/{}", stage.namespace)
}

/// Returns the ready pods of the stage's stores.
pub async fn store_pods(stage: &Stage) -> Result<Vec<Pod>> {
    let selection = ListParams::default().labels("quinistry/role=store");
    let pods = stage.pods().list(&selection).await?;
    Ok(pods.into_iter().filter(is_ready).collect())
}

/// Returns the one line with an error that a failed load prints.
pub fn only_error(errors: &str) -> Result<&str> {
    let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("quinistry: ")).collect();
    let [line] = lines[..] else { bail!("not one line with an error: {errors}") };
    Ok(line)
}

/// Parses the `Bundle` that a load prints.
pub fn parse_bundle(yaml: &str) -> Result<Value> {
    serde_saphyr::from_str(yaml).with_context(|| format!("not a Bundle: {yaml}"))
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
