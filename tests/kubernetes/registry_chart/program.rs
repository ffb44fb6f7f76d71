//! The real program, started with what the chart writes: it reads the file, answers the probes, and passes the
//! steps of `helm test`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::test_pod::{arguments, steps};
use super::{container, file, objects};
use crate::chart::helm::{Helm, only};
use crate::support::http::Peer;
use crate::support::ports::reserved_address;
use crate::support::process::{Process, command, output};
use crate::support::server::PROGRAM;

const USER: &str = "alice";
const PASSWORD: &str = "alice-Vm3zK";

/// The rendered file, and the folders that the pods would have mounted.
struct Place {
    folder: TempDir,
    objects: Vec<Value>,
    address: SocketAddr,
    debug: SocketAddr,
}

fn run(command: &mut Command) -> Output {
    let output = output(command).unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

impl Place {
    fn new(helm: &Helm, sets: &[&str]) -> Self {
        let (address, debug) = (reserved_address(), reserved_address());
        let registry = format!("test.registry={address}");
        let objects = objects(helm, &[sets, &[registry.as_str()]].concat());
        let place = Self { folder: TempDir::new().unwrap(), objects, address, debug };
        fs::create_dir(place.path("data")).unwrap();
        fs::create_dir(place.path("pulled")).unwrap();
        fs::write(place.path("config.yml"), place.localized(&file(&place.objects))).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the paths of the pods by those of this place.
    fn localized(&self, text: &str) -> String {
        let folder = self.folder.path().display();
        text.replace("/etc/quinistry/config/", &format!("{folder}/"))
            .replace("/etc/quinistry/", &format!("{folder}/"))
            .replace("/data", &format!("{folder}/data"))
            .replace("/pulled", &format!("{folder}/pulled"))
    }

    /// Writes what the Secrets of users, certificate and login would hold.
    fn with_secrets(self) -> Self {
        run(command(PROGRAM).args(["tls", "init", "--host", "127.0.0.1"]).arg(self.path("tls")));
        for name in ["auth", "login"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        fs::write(self.path("password"), PASSWORD).unwrap();
        let mut add = command(PROGRAM);
        add.args(["user", "add", "--password-stdin"]).arg(self.path("auth/htpasswd")).arg(USER);
        let mut child = crate::support::process::spawn(
            add.stdin(fs::File::open(self.path("password")).unwrap())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        assert!(child.wait().unwrap().success());
        let auth = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let auths = Value::from_iter([(self.address.to_string(), json!({"auth": auth}))]);
        fs::write(self.path("login/config.json"), json!({"auths": auths}).to_string()).unwrap();
        self
    }

    /// Starts the registry as its container does, on addresses of this place.
    fn serve(&self) -> Process {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut serve = command(PROGRAM);
        serve.args(arguments(container(&self.objects)).iter().map(|argument| self.localized(argument)));
        serve.env("REGISTRY_HTTP_ADDR", self.address.to_string());
        serve.env("REGISTRY_HTTP_DEBUG_ADDR", self.debug.to_string());
        serve.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Process::start(&mut serve).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Runs the containers of `helm test`, one after the other.
    fn test(&self) {
        for step in steps(&self.objects) {
            let mut client = command(PROGRAM);
            client.args(arguments(&step).iter().map(|argument| self.localized(argument)));
            client.env("DOCKER_CONFIG", self.path("none")).current_dir(self.folder.path());
            for variable in step["env"].as_array().into_iter().flatten() {
                let value = self.localized(variable["value"].as_str().unwrap());
                client.env(variable["name"].as_str().unwrap(), value);
            }
            let output = output(&mut client).unwrap();
            assert!(output.status.success(), "{}: {output:?}\n{}", step["name"], self.log());
        }
    }

    /// Tells whether the image that `helm test` pushes has a tag.
    fn has_tag(&self) -> bool {
        let repositories = self.path("data/docker/registry/v2/repositories");
        let tag = format!("helm-test/_manifests/tags/{}/current/link", env!("CARGO_PKG_VERSION"));
        repositories.join(tag).is_file()
    }
}

/// Checks that every probe of the container succeeds, and that Prometheus gets metrics where it looks for them.
fn check_probes(place: &Place) {
    let container = container(&place.objects);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "debug", "{probe}");
        let answer = Peer(place.debug).get(get["path"].as_str().unwrap());
        assert_eq!(answer.status, 200, "{probe}: {answer:?}");
    }
    let monitor = only(&place.objects, "ServiceMonitor")["spec"]["endpoints"][0].clone();
    let metrics = Peer(place.debug).get(monitor["path"].as_str().unwrap());
    assert!(metrics.text().contains("quinistry_"), "{metrics:?}");
}

#[test]
fn a_registry_without_users_passes_its_probes_and_its_test() {
    let Some(helm) = Helm::find() else { return };
    let place = Place::new(&helm, &["serviceMonitor.enabled=true"]);
    let _registry = place.serve();
    place.test();
    assert!(place.has_tag(), "where nothing may be deleted, the image stays");
    check_probes(&place);
    // The test can be repeated.
    place.test();
}

#[test]
fn a_registry_with_users_and_https_passes_its_probes_and_its_test() {
    let Some(helm) = Helm::find() else { return };
    let sets = [
        "serviceMonitor.enabled=true,storage.deletes=true",
        "auth.htpasswd.existingSecret=users,tls.existingSecret=certificate,test.credentialsSecret=login",
    ];
    let place = Place::new(&helm, &sets).with_secrets();
    let _registry = place.serve();
    place.test();
    check_probes(&place);
    let pushed = place.path("data/docker/registry/v2/repositories/helm-test");
    assert!(pushed.is_dir() && !place.has_tag(), "the image was pushed, and its tag deleted");
}

#[test]
fn without_a_login_the_test_pulls_the_built_in_image() {
    let Some(helm) = Helm::find() else { return };
    let sets = ["auth.htpasswd.existingSecret=users,tls.existingSecret=certificate"];
    let place = Place::new(&helm, &sets).with_secrets();
    let _registry = place.serve();
    place.test();
    assert!(!place.path("data/docker/registry/v2/repositories/helm-test").exists());
}

#[test]
fn read_only_pods_serve_a_volume_together() {
    let Some(helm) = Helm::find() else { return };
    let writer = Place::new(&helm, &[]);
    {
        let _registry = writer.serve();
        writer.test();
    }
    let readers = [(); 2].map(|()| {
        let sets = ["readOnly=true,replicas=2,storage.filesystem.existingClaim=shelf"];
        let reader = Place::new(&helm, &sets);
        fs::remove_dir(reader.path("data")).unwrap();
        std::os::unix::fs::symlink(writer.path("data"), reader.path("data")).unwrap();
        reader
    });
    let _registries = readers.each_ref().map(Place::serve);
    for reader in &readers {
        reader.test();
        let image = format!("{}/helm-test:{}", reader.address, env!("CARGO_PKG_VERSION"));
        run(command(PROGRAM).args(["verify", &image]));
        // Nothing would be written under a tag that means the same image already.
        let other = format!("{}/helm-test:other", reader.address);
        let refused = output(command(PROGRAM).args(["push", "--self", &other])).unwrap();
        assert!(!refused.status.success(), "{refused:?}");
    }
}

#[test]
fn the_program_knows_every_key_and_warns_about_the_listener_of_the_probes_alone() {
    let Some(helm) = Helm::find() else { return };
    let users = "auth.htpasswd.existingSecret=users,tls.existingSecret=certificate";
    for sets in [&["log.format=json,log.access=false"] as &[&str], &[users]] {
        let place = Place::new(&helm, sets).with_secrets();
        let findings = findings(&place.path("config.yml"));
        let keys: Vec<_> = findings.iter().map(|finding| finding["key"].as_str().unwrap()).collect();
        // Kubelet and Prometheus reach the pods by their addresses. The NetworkPolicy limits who else does.
        assert_eq!(keys, ["http.debug.addr"], "{findings:?}");
        assert_eq!(findings[0]["severity"], "warning");
    }
}

#[test]
fn the_program_takes_the_buckets_that_the_chart_writes_with_every_setting() {
    let Some(helm) = Helm::find() else { return };
    let s3 = "storage.type=s3,storage.s3.bucket=books,storage.s3.region=eu-central-1,storage.s3.rootdirectory=/team,\
              storage.s3.regionendpoint=https://minio.example.com,storage.s3.forcepathstyle=true,\
              storage.s3.redirectendpoint=https://s3.example.com,storage.s3.encrypt=true,storage.s3.keyid=k,\
              storage.s3.secure=true,storage.s3.chunksize=33554432,storage.s3.multipartcopychunksize=33554432,\
              storage.s3.multipartcopymaxconcurrency=10,storage.s3.multipartcopythresholdsize=5368709120,\
              storage.s3.storageclass=STANDARD_IA,storage.s3.objectacl=bucket-owner-full-control,\
              storage.s3.useragent=books,storage.s3.usedualstack=true";
    let gcs = "storage.type=gcs,storage.gcs.bucket=books,storage.gcs.rootdirectory=team,\
               storage.gcs.chunksize=16777216,storage.gcs.maxconcurrency=40,storage.gcs.useragent=books";
    let azure = "storage.type=azure,storage.azure.accountname=books,storage.azure.container=c,\
                 storage.azure.rootdirectory=team,storage.azure.realm=core.windows.net,\
                 storage.azure.serviceurl=https://books.example.com,storage.azure.max_retries=3,\
                 storage.azure.retry_delay=1s";
    let login = "storage.credentials.existingSecret=bucket,storage.azure.credentials.type=client_secret,\
                 storage.azure.credentials.clientid=c,storage.azure.credentials.tenantid=t";
    let secret = "storage.credentials.existingSecret=bucket";
    for sets in [&[s3] as &[&str], &[s3, secret], &[gcs], &[gcs, secret], &[azure], &[azure, login]] {
        let place = Place::new(&helm, sets);
        let findings = findings_of(&place);
        let keys: Vec<_> = findings.iter().map(|finding| finding["key"].as_str().unwrap()).collect();
        assert_eq!(keys, ["http.debug.addr"], "{sets:?}: {findings:?}");
    }
}

/// Returns the findings about the file and the variables of the container, whose Secrets hold some text.
fn findings_of(place: &Place) -> Vec<Value> {
    let mut check = command(PROGRAM);
    check.args(["config", "check", "-o", "json"]).arg(place.path("config.yml"));
    for variable in container(&place.objects)["env"].as_array().into_iter().flatten() {
        check.env(variable["name"].as_str().unwrap(), "text");
    }
    passed(&mut check)
}

fn findings(file: &Path) -> Vec<Value> {
    passed(command(PROGRAM).args(["config", "check", "-o", "json"]).arg(file))
}

/// Runs a check that must pass, and returns its findings.
fn passed(check: &mut Command) -> Vec<Value> {
    let output = run(check);
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["passes"], true);
    checked["findings"].as_array().unwrap().clone()
}
