//! A folder of many images: distribution's command beside ours, while no registry serves, and a cycle of a
//! registry that serves. All of them only look, so that each finds the same.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quinistry::oci::{Digest, media_type};

use crate::support::connection::Connection;
use crate::support::process::{Process, free_address};

/// Manifests of a folder.
const MANIFESTS: f64 = 100_000.0;

/// Manifests of one repository.
const PER_REPOSITORY: usize = 1_000;

/// Longest wait for the end of a cycle.
const CYCLE_TIMEOUT: Duration = Duration::from_hours(1);

/// Pause between two looks at the metrics.
const PAUSE: Duration = Duration::from_millis(20);

/// Folder of images. Each has a configuration of its own, and shares three layers with the others.
#[derive(Debug)]
pub(crate) struct Images {
    folder: tempfile::TempDir,
    count: usize,
}

// === impl Images ===

impl Images {
    pub(crate) fn write(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "shares are small and positive"
        )]
        let count = (MANIFESTS * share).max(1.0) as usize;
        let images = Self { folder: tempfile::tempdir().unwrap(), count };
        let layers = [b"one layer", b"two layer", b"few layer"].map(|layer| images.blob(layer));
        for number in 0..count {
            images.image(number, &layers);
        }
        images
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    fn image(&self, number: usize, layers: &[(Digest, usize)]) {
        let repository = self.repository(number);
        let config =
            self.blob(format!(r#"{{"architecture":"amd64","os":"linux","n":"{number}"}}"#).as_bytes());
        let descriptor = |(digest, size): &(Digest, usize), media_type: &str| {
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
        };
        let listed: Vec<_> =
            layers.iter().map(|layer| descriptor(layer, media_type::OCI_LAYER_TAR)).collect();
        let (manifest, _) = self.blob(
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
                media_type::OCI_MANIFEST,
                descriptor(&config, media_type::OCI_CONFIG),
                listed.join(",")
            )
            .as_bytes(),
        );
        for (digest, _) in layers.iter().chain([&config]) {
            link(&repository.join(format!("_layers/sha256/{}/link", digest.hex())), digest);
        }
        let manifests = repository.join("_manifests");
        link(&manifests.join(format!("revisions/sha256/{}/link", manifest.hex())), &manifest);
        let tag = manifests.join(format!("tags/v{number}"));
        link(&tag.join("current/link"), &manifest);
        link(&tag.join(format!("index/sha256/{}/link", manifest.hex())), &manifest);
    }

    fn repository(&self, number: usize) -> PathBuf {
        let name = format!("docker/registry/v2/repositories/team/app{}", number / PER_REPOSITORY);
        self.root().join(name)
    }

    fn blob(&self, bytes: &[u8]) -> (Digest, usize) {
        let digest = Digest::sha256(bytes);
        let hex = digest.hex();
        let file = self.root().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
        write(&file, bytes);
        (digest, bytes.len())
    }
}

fn link(file: &Path, digest: &Digest) {
    write(file, digest.as_str().as_bytes());
}

fn write(file: &Path, bytes: &[u8]) {
    if !file.exists() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

pub(crate) fn measure(images: &Images, program: &Path) {
    let config = images.folder.path().with_extension("yml");
    let root = images.root().display();
    fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{root}'}}}}\n"
        ),
    )
    .unwrap();
    let mut ours = Command::new(program);
    ours.args(["gc", "--dry-run", "--quiet", "--grace", "0"]).arg(images.root());
    let ours = seconds(&mut ours);
    println!("{} manifests, quinistry gc --dry-run: {ours:.1} s", images.count);
    let mut theirs = Command::new("registry");
    theirs.env("OTEL_TRACES_EXPORTER", "none").args(["garbage-collect", "--dry-run"]).arg(&config);
    let theirs = seconds(&mut theirs);
    println!("the same, registry garbage-collect --dry-run: {theirs:.1} s, {:.2} times ours", theirs / ours);
    let registry = Registry::start(program, images.root(), Some(", rate: 4000000000"));
    let first = registry.cycle();
    println!(
        "the same, a cycle while serving that reads each manifest: {first:.1} s, distribution's time is {:.2} times that; \
         {:.0} MB at most",
        theirs / first,
        registry.process.high_water()
    );
    fs::remove_file(config).unwrap();
}

fn seconds(command: &mut Command) -> f64 {
    let begin = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    begin.elapsed().as_secs_f64()
}

/// Registry on a folder, with metrics.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) process: Process,
    metrics: SocketAddr,
    config: PathBuf,
    began: Instant,
}

// === impl Registry ===

impl Registry {
    /// Starts a registry; `gc` are the keys of `quinistry.gc`, if it collects. Its first cycle begins at
    /// once.
    pub(crate) fn start(program: &Path, root: &Path, gc: Option<&str>) -> Self {
        let (address, metrics) = (free_address(), free_address());
        let gc = gc.map_or_else(String::new, |keys| format!("quinistry: {{gc: {{writers: ours{keys}}}}}\n"));
        let config = root.with_extension("serve.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: \
             '{}'}}}}\nhttp: {{addr: '{address}', debug: {{addr: '{metrics}', prometheus: {{enabled: true}}}}}}\n{gc}",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&config);
        let process = Process::start(command, address);
        process.connect();
        Self { process, metrics, config, began: Instant::now() }
    }

    /// Returns the value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = Connection::new(TcpStream::connect(self.metrics).unwrap()).body("/metrics");
        let page = String::from_utf8(page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {page}")).parse().unwrap()
    }

    /// Waits for the end of the first cycle, and returns the seconds since the start of the registry.
    fn cycle(&self) -> f64 {
        while self.metric("quinistry_gc_last_success_timestamp_seconds") == 0 {
            assert_eq!(
                self.metric("quinistry_gc_failures_total"),
                0,
                "run {} by hand",
                self.config.display()
            );
            assert!(self.began.elapsed() < CYCLE_TIMEOUT, "the cycle does not end");
            std::thread::sleep(PAUSE);
        }
        self.began.elapsed().as_secs_f64()
    }
}
