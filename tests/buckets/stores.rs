//! Replicas of this program on a bucket.

use std::fs;
use std::process::Command;

use quinistry_bucket::testing::{RequestKind, SentRequest};
use tempfile::TempDir;

use crate::support::http::Peer;
use crate::support::process::{isolated_command, output};
use crate::support::server::{Mortal, PROGRAM, SERVE, Server};

/// A replica of this program; killed when dropped.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) server: Server,
    _folder: TempDir,
}

/// Settings of a replica beside its bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReplicaSettings<'a> {
    /// Keys of `storage` behind that of the bucket, such as `, redirect: …`.
    pub(crate) storage: &'a str,
    /// Further sections of the file, a line each.
    pub(crate) sections: &'a str,
    /// Failpoint at which the program aborts.
    pub(crate) failpoint: Option<&'a str>,
    /// Further variables of its environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
}

impl Replica {
    /// Starts a replica, by the section of its configuration that names the bucket.
    pub(crate) fn start(section: &str) -> Self {
        Self::with(section, ReplicaSettings::default())
    }

    pub(crate) fn with(section: &str, settings: ReplicaSettings<'_>) -> Self {
        let (mut start, folder) = command_of(section, settings);
        Self { server: Server::launch(&mut start), _folder: folder }
    }

    /// Starts a replica on a bucket that a URL names, with the variables by which credentials are found.
    pub(crate) fn on_url(url: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut start = isolated_command(PROGRAM);
        start.args(SERVE).args(["--storage", url]).envs(variables.iter().copied());
        Self { server: Server::launch(&mut start), _folder: folder }
    }

    pub(crate) fn peer(&self) -> Peer {
        self.server.peer
    }
}

/// Starts the program on a store that it must refuse, and returns the error.
#[track_caller]
pub(crate) fn refusal(section: &str, settings: ReplicaSettings<'_>) -> String {
    let (mut start, _folder) = command_of(section, settings);
    let ended = output(&mut start).unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success(), "the program serves: {said}");
    said
}

/// Starts a replica that dies at its failpoint, and returns it with the folder of its configuration. `None` if it
/// dies before it serves.
pub(crate) fn start_mortal(section: &str, failpoint: &str) -> Option<(Mortal, TempDir)> {
    let settings = ReplicaSettings { failpoint: Some(failpoint), ..ReplicaSettings::default() };
    let (mut start, folder) = command_of(section, settings);
    Some((Mortal::launch(&mut start)?, folder))
}

/// Returns the command that starts a replica, and the folder of its configuration.
fn command_of(section: &str, settings: ReplicaSettings<'_>) -> (Command, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yml");
    fs::write(&config, configuration(section, settings)).unwrap();
    let mut start = isolated_command(PROGRAM);
    start.arg("serve").arg(&config).env("QUINISTRY_FAILPOINT", settings.failpoint.unwrap_or("none"));
    start.envs(settings.variables.iter().copied());
    (start, folder)
}

/// Returns the text of a configuration file.
fn configuration(section: &str, settings: ReplicaSettings<'_>) -> String {
    let ReplicaSettings { storage, sections, .. } = settings;
    format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{{section}, delete: {{enabled: true}}{storage}}}\n\
         http: {{addr: '127.0.0.1:0'}}\n{sections}"
    )
}

/// Keys beneath `_quinistry` that only work in the background touches: the heartbeats of replicas, the terms of leaders,
/// the mark that all repositories are registered, the position of the scrub.
const OF_BACKGROUND: [&str; 4] = ["replicas", "leader", "repos-complete", "scrub"];

/// Folders that only work in the background lists, but for a page of the catalog.
const LISTED_IN_BACKGROUND: [&str; 5] =
    ["/repositories/", "/_uploads/", "/_quinistry/repos/", "/_quinistry/tmp/", "/_quinistry/gc/"];

/// Returns true for requests that no operation of a client waits for, but for a page of the catalog.
///
/// Heartbeats, renewals of the lead and looks for uploads that were left behind come at any time, the position of the
/// scrub is read after a start, a walk for repositories of another program half a minute after a start, and sessions
/// that have ended are cleared after the answer.
pub(crate) fn is_background(request: &SentRequest) -> bool {
    let key = &request.key;
    if OF_BACKGROUND.iter().any(|part| key.contains(&format!("/_quinistry/{part}"))) {
        return true;
    }
    match request.kind {
        RequestKind::ListUploads => true,
        RequestKind::List => LISTED_IN_BACKGROUND.iter().any(|folder| key.ends_with(folder)),
        RequestKind::DeleteMany => key.contains("/_uploads/"),
        // The mark of a session that has ended; what a client waits for is created.
        RequestKind::Put if key.contains("/_uploads/") => key.contains("/s.") && !request.is_conditional,
        // Looks for what another replica condemns.
        RequestKind::Get if key.contains("/_quinistry/gc/") => key.ends_with("/sealed"),
        _ => false,
    }
}
