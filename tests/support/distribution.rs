//! Debian's `docker-registry`, if it is installed: another program's opinion.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::skip::missing;

/// A registry on a free port, in memory; ended when dropped.
pub struct Distribution {
    child: Child,
    pub host: String,
    _folder: tempfile::TempDir,
}

impl Distribution {
    /// `None`, and a line that says so, if the program is not there.
    pub fn start() -> Option<Self> {
        Self::run(tempfile::tempdir().unwrap(), "addr: '127.0.0.1:0'")
    }

    /// The same, on a folder that is there to stay.
    pub fn on(root: &std::path::Path) -> Option<Self> {
        let storage =
            format!("filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}", root.display());
        Self::with(tempfile::tempdir().unwrap(), &storage, "addr: '127.0.0.1:0'")
    }

    /// The same with TLS; and the certificate.
    pub fn start_tls() -> Option<(Self, PathBuf)> {
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        let Ok(made) = made else {
            missing("openssl");
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let tls = format!("tls: {{certificate: '{}', key: '{}'}}", certificate.display(), key.display());
        let registry = Self::run(folder, &format!("addr: '127.0.0.1:0', {tls}"))?;
        Some((registry, certificate))
    }

    fn run(folder: tempfile::TempDir, http: &str) -> Option<Self> {
        Self::with(folder, "inmemory: {}", http)
    }

    fn with(folder: tempfile::TempDir, storage: &str, http: &str) -> Option<Self> {
        let config = folder.path().join("config.yml");
        let text = format!("version: 0.1\nstorage: {{{storage}}}\nhttp: {{{http}}}\nlog: {{level: info}}\n");
        std::fs::write(&config, text).unwrap();
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            missing("docker-registry");
            return None;
        };
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let host = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "docker-registry ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ' ', ',', '\n']).next().unwrap().to_owned();
            }
        };
        // It must not block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self { child, host, _folder: folder })
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
