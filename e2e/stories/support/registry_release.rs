//! A release of the registry's chart, with users and HTTPS, in a namespace that admits restricted pods alone; and
//! clients of it on a node.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Node, Stage, shell, wait};

const DEADLINE: Duration = Duration::from_mins(3);

/// Name of the release, and so of its Deployment, Service and claim.
pub const RELEASE: &str = "registry";

const PORT: u16 = 5000;
const USER: &str = "alice";
const PASSWORD: &str = "alice-Tq4vH";
/// [`PASSWORD`] by bcrypt.
const HASH: &str = "$2y$10$0NPlY3osO/XF8TuyU5232uFH06BgCM.ZyYo6xwPCS1faJrPFALEZi";

/// A release, and the files of its clients.
pub struct RegistryRelease<'a> {
    stage: &'a Stage,
    values: Vec<String>,
    /// Address of the Service, with its port.
    registry: String,
    files: TempDir,
}

impl<'a> RegistryRelease<'a> {
    /// Installs the release without pods, since the certificate needs the Service's address: not every cluster
    /// resolves names of Services. Creates the Secrets that the values name.
    pub async fn prepare(stage: &'a Stage, values: &[String]) -> Result<Self> {
        restrict(stage).await?;
        let own = [
            "tolerations[0].operator=Exists",
            "auth.htpasswd.existingSecret=users",
            "tls.existingSecret=tls",
            "httpSecret.existingSecret=http",
            "test.credentialsSecret=login",
        ];
        let values = own.iter().map(|&value| value.to_owned()).chain(values.iter().cloned()).collect();
        let mut release = Self { stage, values, registry: String::new(), files: tempfile::tempdir()? };
        release.upgrade(&["replicas=0"]).await?;
        let services = Api::<core::Service>::namespaced(stage.world.client.clone(), &stage.namespace);
        let service = services.get(RELEASE).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has an address")?;
        release.registry = format!("{address}:{PORT}");
        release.values.push(format!("test.registry={}", release.registry));
        release.create_secrets(&address).await?;
        Ok(release)
    }

    /// Installs or upgrades the release, and waits until it serves.
    pub async fn upgrade(&self, more: &[&str]) -> Result<()> {
        let arguments =
            ["upgrade", "--install", RELEASE, "charts/quinistry-registry", "--reset-values", "--wait"];
        let values = self.values.iter().map(String::as_str).chain(more.iter().copied());
        let values = values.flat_map(|value| ["--set", value]);
        let arguments = arguments.into_iter().chain(["--timeout", "120s"]).chain(values);
        helm(self.stage, &arguments.collect::<Vec<_>>()).await
    }

    /// Runs `helm test`.
    pub async fn test(&self) -> Result<()> {
        helm(self.stage, &["test", RELEASE, "--timeout", "90s"]).await
    }

    /// Waits until the release has exactly these pods, all ready, and returns their UIDs.
    pub async fn pods(&self, count: usize) -> Result<BTreeSet<String>> {
        let selection = ListParams::default().labels("app.kubernetes.io/component=registry");
        let what = format!("the release has {count} pods, which are ready");
        let pods = wait::until_all(&self.stage.pods(), &selection, DEADLINE, &what, |pods| {
            pods.len() == count && pods.iter().all(is_ready)
        })
        .await?;
        Ok(pods.iter().filter_map(kube::ResourceExt::uid).collect())
    }

    /// Returns a client on a node, which trusts the certificate's authority.
    pub async fn client(&self, node: &'a dyn Node) -> Result<RegistryClient<'a>> {
        let files = self.files.path();
        std::fs::write(files.join("config.json"), login(&self.registry))?;
        let logins = node.copy(&files.join("config.json")).await?;
        let (logins, _) = logins.rsplit_once('/').context("an absolute path")?;
        Ok(RegistryClient {
            node,
            program: node.copy(&self.stage.world.first.path).await?,
            authority: node.copy(&files.join("tls/ca.crt")).await?,
            logins: logins.to_owned(),
            registry: self.registry.clone(),
        })
    }

    async fn create_secrets(&self, address: &str) -> Result<()> {
        let program = self.stage.world.first.path.to_string_lossy();
        let folder = self.files.path().join("tls");
        let path = folder.to_string_lossy();
        shell::output(shell::command([&*program, "tls", "init", &*path, "--host", address])).await?;
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        let login = login(&self.registry);
        let pair =
            json!({"tls.crt": read("tls.crt")?, "tls.key": read("tls.key")?, "ca.crt": read("ca.crt")?});
        for (name, kind, content) in [
            ("users", "Opaque", json!({"htpasswd": format!("{USER}:{HASH}\n")})),
            ("http", "Opaque", json!({"secret": "0123456789abcdef".repeat(4)})),
            ("login", "kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": login})),
            ("tls", "kubernetes.io/tls", pair),
        ] {
            create_secret(self.stage, name, kind, &content).await?;
        }
        Ok(())
    }
}

/// Uninstalls the release, if there is one, and waits until its pods are gone.
pub async fn uninstall(stage: &Stage) -> Result<()> {
    helm(stage, &["uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout", "90s"]).await?;
    let all = ListParams::default();
    wait::until_none(&stage.pods(), &all, DEADLINE, "the registry's pods are gone").await
}

/// Creates a Secret in the story's namespace.
pub async fn create_secret(stage: &Stage, name: &str, kind: &str, content: &Value) -> Result<()> {
    let secret = json!({"metadata": {"name": name}, "type": kind, "stringData": content});
    let api = Api::<core::Secret>::namespaced(stage.world.client.clone(), &stage.namespace);
    api.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    Ok(())
}

/// Runs helm in the story's namespace.
async fn helm(stage: &Stage, arguments: &[&str]) -> Result<()> {
    let helm = stage.world.helm.to_string_lossy();
    let words = [helm.as_ref(), "--namespace", &stage.namespace];
    let mut command = shell::command(words.iter().chain(arguments));
    command.current_dir(&stage.world.root);
    shell::text(command).await.map(drop)
}

/// Makes the namespace admit only pods that satisfy the level `restricted`.
async fn restrict(stage: &Stage) -> Result<()> {
    let level = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = Api::<core::Namespace>::all(stage.world.client.clone());
    namespaces.patch(&stage.namespace, &PatchParams::default(), &Patch::Merge(level)).await?;
    Ok(())
}

/// Returns a configuration of Docker with the login for a registry.
fn login(registry: &str) -> String {
    let auth = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let auths = Value::from_iter([(registry.to_owned(), json!({"auth": auth}))]);
    json!({"auths": auths}).to_string()
}

fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_ready =
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
    is_ready && pod.metadata.deletion_timestamp.is_none()
}

/// A client on a node.
pub struct RegistryClient<'a> {
    node: &'a dyn Node,
    program: String,
    authority: String,
    /// Folder with the login.
    logins: String,
    registry: String,
}

impl RegistryClient<'_> {
    /// Pulls the image that `helm test` pushed, and hashes its bytes.
    pub async fn pull_test_image(&self) -> Result<()> {
        self.verify(concat!("helm-test:", env!("CARGO_PKG_VERSION"))).await
    }

    /// Pulls an image, and hashes its bytes.
    pub async fn verify(&self, image: &str) -> Result<()> {
        self.run(&self.logins, &["verify", &self.name(image)]).await
    }

    /// Pulls an image without credentials.
    pub async fn verify_without_login(&self, image: &str) -> Result<()> {
        self.run("/nonexistent", &["verify", &self.name(image)]).await
    }

    /// Pushes the image of the program under test. Nothing is written if the tag means it already.
    pub async fn push(&self, image: &str) -> Result<()> {
        self.run(&self.logins, &["push", "--self", &self.name(image)]).await
    }

    /// Pushes an image that no registry has: that of a copy of the program, with the image's name at its end.
    pub async fn push_new_image(&self, image: &str) -> Result<()> {
        let script = "copy=$(mktemp) && cp \"$0\" \"$copy\" && chmod 700 \"$copy\" && printf %s \"$1\" >>\"$copy\" \
            && DOCKER_CONFIG=$2 \"$copy\" push --self \"$1\" --ca \"$3\"; code=$?; rm -f \"$copy\"; exit $code";
        let name = self.name(image);
        let words = ["sh", "-c", script, &self.program, &name, &self.logins, &self.authority];
        self.node.run(&words).await.map(drop)
    }

    fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.registry)
    }

    async fn run(&self, logins: &str, words: &[&str]) -> Result<()> {
        let variable = format!("DOCKER_CONFIG={logins}");
        let command = ["env", &variable, &self.program].into_iter().chain(words.iter().copied());
        let command: Vec<&str> = command.chain(["--ca", &self.authority]).collect();
        self.node.run(&command).await.map(drop)
    }
}

/// Returns the path of a folder on a node for the content of a story.
pub fn folder(stage: &Stage) -> String {
    Path::new("/var/tmp").join(&stage.namespace).to_string_lossy().into_owned()
}
