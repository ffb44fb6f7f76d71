//! curl: the requests of a push and a pull as a script writes them, with user and password in each.

use std::fs;

use super::Client;
use crate::attempt::{Attempt, Verdict};
use crate::machine::Machine;
use crate::registry::Registry;
use crate::session::{Session, image};
use crate::support::images::Image;

pub(crate) struct Curl {
    image: Image,
}

impl Curl {
    pub(crate) fn new() -> Self {
        Self { image: image("curl") }
    }
}

impl Client for Curl {
    fn needs() -> Vec<&'static str> {
        Vec::new()
    }

    fn start(_: &mut Machine, _: &[Registry]) -> Self {
        Self::new()
    }

    /// Asks what `docker login` asks.
    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        Some(session.attempt(curl(session, &["--output", "/dev/null", &session.registry.url("/v2/")])))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        for (descriptor, bytes) in self.image.blobs() {
            let file = session.path("blob");
            fs::write(&file, bytes).unwrap();
            let start = session.registry.url(&format!("/v2/{repository}/blobs/uploads/"));
            let begin = ["--request", "POST", "--write-out", "%header{location}", &start];
            let opened = session.attempt(curl(session, &[&["--output", "/dev/null"], &begin[..]].concat()));
            if opened.verdict() == Verdict::Refused {
                return Some(opened);
            }
            let location = opened.stdout();
            let location = match location.strip_prefix('/') {
                Some(path) => session.registry.url(&format!("/{path}")),
                None => location.to_owned(),
            };
            let separator = if location.contains('?') { '&' } else { '?' };
            let end = format!("{location}{separator}digest={}", descriptor.digest);
            session.attempt(curl(session, &["--upload-file", &file, &end])).allowed();
        }
        let file = session.path("manifest");
        fs::write(&file, &self.image.manifest).unwrap();
        let kind = format!("Content-Type: {}", self.image.descriptor.media_type);
        let url = session.registry.url(&format!("/v2/{repository}/manifests/1"));
        Some(session.attempt(curl(session, &["--header", &kind, "--upload-file", &file, &url])))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let layer = self.image.layers[0].0.digest.as_str();
        let url = |path: &str| session.registry.url(&format!("/v2/{repository}/{path}"));
        let accept = format!("Accept: {}", self.image.descriptor.media_type);
        let manifest = ["--header", &accept, "--output", "/dev/null", &url("manifests/1")];
        let manifest = session.attempt(curl(session, &manifest));
        if manifest.verdict() == Verdict::Refused {
            return manifest;
        }
        session.attempt(curl(session, &["--output", "/dev/null", &url(&format!("blobs/{layer}"))]))
    }
}

/// A command of curl that fails if the answer is an error.
pub(crate) fn curl(session: &Session<'_>, arguments: &[&str]) -> std::process::Command {
    let mut command = session.command("curl", &["--silent", "--show-error", "--fail"]);
    command.args(session.registry.choose(&["--cacert", "{ca}"], &[]));
    command.args(session.user_and_password().iter().flat_map(|login| ["--user", login]));
    command.args(arguments);
    command
}
