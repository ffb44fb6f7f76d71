//! containerd, in the version that Debian 12 has and in the newest: pull, run, import.
//!
//! Both by `ctr`, whose old version resolves and fetches by itself, while the new one leaves that to the
//! daemon's transfer service unless told `--local`.

use std::fs;

use crate::machine::Machine;
use crate::program::{QUINISTRY, built, lacks, own_digest};

/// One version of containerd, by its programs.
pub(crate) struct Version {
    daemon: &'static str,
    ctr: &'static str,
    /// The folder of the shim, where it is not in the usual place.
    shim: Option<&'static str>,
    config: &'static str,
    /// More ways to pull than all versions have.
    ways: &'static [&'static [&'static str]],
}

/// Configuration without the plugins for kubelets, which need networks and sandboxes that these tests do not.
const CONFIG_2: &str = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
const CONFIG_3: &str = "version = 3\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
    \"io.containerd.cri.v1.runtime\", \"io.containerd.cri.v1.images\"]\n";

/// Makes the client speak TLS to us, take what we say for an answer, and come back in plain text.
const TLS_FIRST: &str =
    "server = \"http://localhost:5000\"\n[host.\"https://localhost:5000\"]\nskip_verify = true\n";

pub(crate) fn debian() -> Version {
    Version { daemon: "/usr/bin/containerd", ctr: "/usr/bin/ctr", shim: None, config: CONFIG_2, ways: &[] }
}

pub(crate) fn newest() -> Version {
    Version {
        daemon: built("containerd", "2.4.2"),
        ctr: built("ctr", "2.4.2"),
        shim: Some(built("containerd-shim-runc-v2", "2.4.2")),
        config: CONFIG_3,
        ways: &[
            &["--local"],
            &["--local", "--hosts-dir", "no-hosts"],
            &["--local", "--hosts-dir", "tls-first"],
        ],
    }
}

impl Version {
    pub(crate) fn is_missing(&self) -> bool {
        let shim = self.shim.unwrap_or("containerd-shim-runc-v2");
        lacks(&[self.daemon, self.ctr, shim, "runc"])
    }

    /// Starts the daemon, and gives what to call it by.
    pub(crate) fn start<'a>(&self, machine: &'a mut Machine) -> Client<'a> {
        let config = format!(
            "{}root = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n",
            self.config,
            machine.path("containerd-root"),
            machine.path("containerd-state"),
            machine.path("containerd.sock"),
        );
        fs::write(machine.path("containerd.toml"), config).unwrap();
        fs::create_dir(machine.path("no-hosts")).unwrap();
        fs::create_dir_all(machine.path("tls-first/localhost:5000")).unwrap();
        fs::write(machine.path("tls-first/localhost:5000/hosts.toml"), TLS_FIRST).unwrap();
        let mut command = machine.command(self.daemon);
        command.args(["--config", &machine.path("containerd.toml")]);
        if let Some((folder, _)) = self.shim.and_then(|shim| shim.rsplit_once('/')) {
            command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
        }
        machine.daemon("containerd", command);
        let client = Client { ctr: self.ctr, socket: machine.path("containerd.sock"), machine };
        client.machine.until("containerd", || {
            let version = client.machine.command(client.ctr).args(["-a", &client.socket, "version"]).output();
            version.unwrap().status.success().then_some(())
        });
        client
    }
}

pub(crate) struct Client<'a> {
    ctr: &'static str,
    socket: String,
    machine: &'a Machine,
}

impl Client<'_> {
    pub(crate) fn machine(&self) -> &Machine {
        self.machine
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--address", &self.socket, "--namespace", "k8s.io"], arguments].concat()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        self.machine.run(self.ctr, &self.arguments(arguments))
    }

    pub(crate) fn pull(&self, flags: &[&str], image: &str) {
        self.run(&[&["images", "pull"], flags, &[image]].concat());
    }

    /// The digest of what a name means, which for a pulled image is the manifest's.
    pub(crate) fn target(&self, image: &str) -> String {
        let list = self.run(&["images", "list", &format!("name=={image}")]);
        let line =
            list.lines().find(|line| line.starts_with(&format!("{image} "))).expect("the image is listed");
        line.split_whitespace().nth(2).expect("the third column is the digest").to_owned()
    }

    /// Starts the image as it wants to be started, on the machine's own network.
    fn start(&self, image: &str, container: &str) {
        let cgroup = format!("/{}/{container}", self.machine.name());
        self.run(&["run", "--detach", "--net-host", "--cgroup", &cgroup, image, container]);
    }

    /// Asks the container to stop, and gives the code that it exits with.
    fn stop(&self, container: &str) -> u32 {
        self.run(&["tasks", "kill", "--signal", "SIGTERM", container]);
        self.machine.until("the container to stop", || {
            self.run(&["tasks", "list"]).lines().any(|line| line.contains("STOPPED")).then_some(())
        });
        // `ctr tasks delete` exits as the task did, with a warning if that is not 0.
        let delete =
            self.machine.command(self.ctr).args(self.arguments(&["tasks", "delete", container])).output();
        delete.unwrap().status.code().unwrap().unsigned_abs()
    }
}

fn pulls_by_tag_and_by_digest(version: &Version) {
    if version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    machine.registry(5000, &[]);
    let client = version.start(&mut machine);
    let digest = own_digest("tar");
    let images = ["localhost:5000/quinistry:latest".to_owned(), format!("localhost:5000/quinistry@{digest}")];
    let ways: [&[&str]; 4] =
        [&[], &["--plain-http"], &["--hosts-dir", "no-hosts"], &["--hosts-dir", "tls-first"]];
    for way in ways.iter().chain(version.ways) {
        for image in &images {
            client.pull(way, image);
            assert_eq!(client.target(image), digest, "{image} {way:?}");
            // So that the next pull finds nothing.
            client.run(&["images", "remove", "--sync", image]);
        }
    }
}

fn runs_what_it_pulled_and_pulls_the_same_from_it(version: &Version, layer: &str) {
    if version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    machine.registry(5000, &["--layer", layer]);
    let client = version.start(&mut machine);
    let digest = own_digest(layer);
    client.pull(&[], "localhost:5000/quinistry:latest");

    client.start("localhost:5000/quinistry:latest", "child");
    assert_eq!(client.machine.await_registry(8080), digest);
    client.pull(&[], "localhost:8080/quinistry:latest");

    assert_eq!(client.target("localhost:8080/quinistry:latest"), digest);
    assert_eq!(client.stop("child"), 0, "the container's exit code");
}

fn imports_the_archive_and_runs_it(version: &Version) {
    if version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    let client = version.start(&mut machine);
    let mut save = client.machine.command(QUINISTRY);
    save.args(["image", "save", "-"]);
    let mut import = client.machine.command(client.ctr);
    import.args(client.arguments(&["images", "import", "-"]));
    Machine::pipe(save, import);

    assert_eq!(client.target("localhost:8080/quinistry:latest"), own_digest("tar"));
    client.start("localhost:8080/quinistry:latest", "imported");
    assert_eq!(client.machine.await_registry(8080), own_digest("tar"));
}

fn pushes_what_it_pulled(version: &Version) {
    if version.is_missing() {
        return;
    }
    let mut machine = Machine::start();
    machine.registry(5000, &["--storage", &machine.path("storage")]);
    let client = version.start(&mut machine);
    client.pull(&[], "localhost:5000/quinistry:latest");
    let pushed = "localhost:5000/a/b:v1";
    client.run(&["images", "tag", "localhost:5000/quinistry:latest", pushed]);
    client.run(&["images", "push", "--plain-http", pushed]);
    client.run(&["images", "remove", "--sync", pushed, "localhost:5000/quinistry:latest"]);
    client.pull(&[], pushed);
    assert_eq!(client.target(pushed), own_digest("tar"));
}

#[test]
fn debians_containerd_pushes_what_it_pulled() {
    pushes_what_it_pulled(&debian());
}

#[test]
fn the_newest_containerd_pushes_what_it_pulled() {
    pushes_what_it_pulled(&newest());
}

#[test]
fn debians_containerd_pulls_by_tag_and_by_digest() {
    pulls_by_tag_and_by_digest(&debian());
}

#[test]
fn the_newest_containerd_pulls_by_tag_and_by_digest_in_every_way() {
    pulls_by_tag_and_by_digest(&newest());
}

#[test]
fn debians_containerd_runs_what_it_pulled_and_pulls_the_same_from_it() {
    runs_what_it_pulled_and_pulls_the_same_from_it(&debian(), "tar");
}

#[test]
fn the_newest_containerd_runs_what_it_pulled_and_pulls_the_same_from_it() {
    runs_what_it_pulled_and_pulls_the_same_from_it(&newest(), "tar");
}

#[test]
fn debians_containerd_runs_the_gzip_image_which_serves_itself_as_gzip() {
    runs_what_it_pulled_and_pulls_the_same_from_it(&debian(), "gzip");
}

#[test]
fn the_newest_containerd_runs_the_gzip_image_which_serves_itself_as_gzip() {
    runs_what_it_pulled_and_pulls_the_same_from_it(&newest(), "gzip");
}

#[test]
fn debians_containerd_imports_the_archive_and_runs_it() {
    imports_the_archive_and_runs_it(&debian());
}

#[test]
fn the_newest_containerd_imports_the_archive_and_runs_it() {
    imports_the_archive_and_runs_it(&newest());
}
