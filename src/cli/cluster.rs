//! Common parts of the commands for a cluster: arguments for the connection and for the installation, and
//! live output.

use std::collections::HashSet;
use std::future::Future;
use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::kubernetes_name::is_dns_label;
use super::sanitize;
use crate::crd::NetworkMode;
use crate::install::api::Cluster;
use crate::install::check::{Level, PreflightFinding};
use crate::install::tree::Colours;
use crate::install::{InstallError, InstallPayload, ResourceOptions, names};
use crate::oci::Digest;
use crate::shutdown::Signals;

/// Length of the longest name of a namespace: the operator's namespace has `-operator` appended.
const MAX_NAMESPACE_CHARS: usize = 63 - "-operator".len();

/// Time limit for a read-only command to retry an API server that cannot serve.
const READ_RETRY_TIMEOUT: Duration = Duration::from_secs(8);

/// Time limit for a command that changes the cluster to retry an API server that cannot serve.
const CHANGE_RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// Arguments that name a cluster.
#[derive(Debug, clap::Args)]
pub(super) struct ClusterArgs {
    /// Kubeconfig that names the cluster [default: KUBECONFIG, ~/.kube/config, or a pod's own credentials]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Arguments that describe the installation. Those that are not given keep an existing resource's values.
#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// Namespace of the resource, the seed and all generations; the operator is in NAMESPACE-operator
    #[arg(long, short, value_name = "NAMESPACE", default_value = names::NAMESPACE, value_parser = namespace)]
    pub(super) namespace: String,

    /// Number of generations, beside generation 0 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=16))]
    generations: Option<i32>,

    /// Host port of generation 1; generation 0 has the one below [default: 5000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(i32).range(1026..=65535))]
    base_port: Option<i32>,

    /// Image that the nodes have, to run generation 0 in; may be repeated [default: detected]
    #[arg(long = "carrier", value_name = "IMAGE")]
    carriers: Vec<String>,

    /// Network of the generations: host ports, or the node's network where host ports are not served on
    /// localhost
    #[arg(long, value_name = "HostPort|HostNetwork", value_parser = network)]
    network: Option<NetworkMode>,

    /// Ship this file in place of the running executable
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Digest of that file's image, for a file that cannot run here to compute it
    #[arg(long, value_name = "DIGEST", requires = "binary")]
    digest: Option<Digest>,
}

/// Parses the name of a namespace that leaves room for the operator's.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    if text.len() > MAX_NAMESPACE_CHARS {
        return Err(format!(
            "at most {MAX_NAMESPACE_CHARS} characters, as '-operator' is appended for another one"
        ));
    }
    if is_dns_label(text) {
        Ok(text.into())
    } else {
        Err("a namespace is made of a to z, 0 to 9 and '-', which is neither first nor last".into())
    }
}

/// Parses a mode of the resource's `spec.network`.
fn network(text: &str) -> Result<NetworkMode, String> {
    match text {
        "HostPort" => Ok(NetworkMode::HostPort),
        "HostNetwork" => Ok(NetworkMode::HostNetwork),
        _ => Err("want HostPort or HostNetwork".into()),
    }
}

// === impl ClusterArgs ===

impl ClusterArgs {
    /// Returns true if an argument is given.
    pub(super) const fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// Connects for a read-only command: an API server that cannot serve is reported within seconds.
    pub(super) async fn connect_to_read(&self) -> Result<Cluster, InstallError> {
        self.connect(READ_RETRY_TIMEOUT).await
    }

    /// Connects for a command that changes the cluster and goes on after a short outage.
    pub(super) async fn connect_to_change(&self) -> Result<Cluster, InstallError> {
        self.connect(CHANGE_RETRY_TIMEOUT).await
    }

    async fn connect(&self, retry_timeout: Duration) -> Result<Cluster, InstallError> {
        let cluster =
            Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref(), retry_timeout).await?;
        let shown = Mutex::new(HashSet::new());
        Ok(cluster.with_notice(Arc::new(move |line: &str| {
            let is_new = shown.lock().is_ok_and(|mut shown| shown.insert(line.to_owned()));
            if is_new {
                let _ = writeln!(stderr(), "quinistry: {}", sanitize(line));
            }
        })))
    }
}

// === impl InstallArgs ===

impl InstallArgs {
    pub(super) fn options(&self) -> ResourceOptions {
        ResourceOptions {
            generations: self.generations,
            base_port: self.base_port,
            carriers: self.carriers.clone(),
            network: self.network,
            stores: None,
        }
    }

    pub(super) fn payload(&self) -> anyhow::Result<InstallPayload> {
        Ok(match &self.binary {
            None => InstallPayload::of_this_executable(names::RESOURCE)?,
            Some(path) => InstallPayload::of_file(names::RESOURCE, path, self.digest.clone())?,
        })
    }
}

/// Runs a future to its end, or until a signal to stop; `words` then tell what is left in the cluster.
pub(super) fn run<T>(
    words: &'static str,
    future: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    super::runtime()?.block_on(async {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        tokio::select! {
            result = future => result,
            () = signals.next() => anyhow::bail!("interrupted; {words}"),
        }
    })
}

/// Formats one line of `check`.
pub(super) fn finding_line(finding: &PreflightFinding, colours: Colours) -> String {
    let (code, word) = match finding.level {
        Level::Ok => (32, "ok  "),
        Level::Note => (33, "note"),
        Level::Fail => (31, "FAIL"),
    };
    let word = if colours.0 { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.into() };
    format!("{word}  {:<12}  {}", finding.subject, sanitize(&finding.text))
}

/// Chooses colours for a terminal, unless its user has turned them off. <https://no-color.org>
pub(super) fn colours(is_terminal: bool) -> Colours {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Colours(is_terminal && !unwanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb"))
}

/// Chooses colours for standard output.
pub(super) fn colours_of_stdout() -> Colours {
    colours(stdout().is_terminal())
}

/// Text on standard error that changes: redrawn on a terminal; elsewhere only its new lines are printed.
pub(super) struct LiveText {
    bar: Option<ProgressBar>,
    last: String,
    pub(super) colours: Colours,
}

// === impl LiveText ===

impl LiveText {
    pub(super) fn new() -> Self {
        let is_terminal = stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("a constant template");
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar, last: String::new(), colours: colours(is_terminal) }
    }

    /// Prints a line that stays.
    pub(super) fn print_line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Shows the activity under way, on a terminal only.
    pub(super) fn show_activity(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }

    /// Replaces the text.
    pub(super) fn update(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.trim_end().to_owned());
                bar.tick();
            }
            None => new_lines(&self.last, text).for_each(|line| eprintln!("{line}")),
        }
        text.clone_into(&mut self.last);
    }

    /// Leaves the last text where it is.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Returns the lines that were not there before.
pub(super) fn new_lines<'a>(before: &'a str, now: &'a str) -> impl Iterator<Item = &'a str> {
    now.lines().filter(|line| !line.is_empty() && !before.lines().any(|known| known == *line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_leaves_room_for_the_operators() {
        for good in ["pantry", "a", "a-1", &"a".repeat(54)] {
            assert_eq!(namespace(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "é", &"a".repeat(55)] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_new_lines_are_told() {
        assert_eq!(new_lines("a\nb\n", "a\nc\n\n").collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_finding_is_a_line() {
        let finding = PreflightFinding {
            level: Level::Note,
            subject: "nodes",
            text: "n2\u{1b}[2J".into(),
            details: Vec::new(),
        };
        assert_eq!(finding_line(&finding, Colours(false)), r"note  nodes         n2\u{1b}[2J");
    }
}
