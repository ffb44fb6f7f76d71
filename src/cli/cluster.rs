//! What the commands that speak to a cluster have in common: which one, what is to be raised there, and how it is shown.

use std::collections::HashSet;
use std::future::Future;
use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::plain;
use crate::crd::NetworkMode;
use crate::install::api::Cluster;
use crate::install::check::{Finding, Level};
use crate::install::tree::Paint;
use crate::install::{Shipment, UpError, Wishes, names};
use crate::oci::Digest;
use crate::shutdown::Signals;

/// The longest name of a namespace: `-operator` is appended for another one.
const NAMESPACE_LENGTH: usize = 63 - "-operator".len();

/// Time limit for a read-only command to retry an API server that cannot serve.
const LOOKING: Duration = Duration::from_secs(8);

/// Time limit for a command that changes the cluster to retry an API server that cannot serve.
const CHANGING: Duration = Duration::from_mins(1);

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// How to reach the cluster [default: KUBECONFIG, ~/.kube/config, or a pod's own credentials]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// What is to be raised. What is not said stays as it is, in a resource that is there already.
#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// Where the resource, the pieces and all generations live; the operator is in NAMESPACE-operator
    #[arg(long, short, value_name = "NAMESPACE", default_value = names::NAMESPACE, value_parser = namespace)]
    pub(super) namespace: String,

    /// How many generations, beside generation 0 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=16))]
    generations: Option<i32>,

    /// Host port of generation 1; generation 0 has the one below [default: 5000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(i32).range(1026..=65535))]
    base_port: Option<i32>,

    /// An image that the nodes have, to run generation 0 in; may be repeated [default: detected]
    #[arg(long = "carrier", value_name = "IMAGE")]
    carriers: Vec<String>,

    /// Network of the generations: host ports, or the node's network where host ports are not served on
    /// localhost
    #[arg(long, value_name = "HostPort|HostNetwork", value_parser = network)]
    network: Option<NetworkMode>,

    /// Ship this file in place of the running executable
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// The digest of that file's image, where it cannot be asked for it
    #[arg(long, value_name = "DIGEST", requires = "binary")]
    digest: Option<Digest>,
}

/// A namespace that can have another one beside it.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c != '-' && inner(c));
    if text.len() > NAMESPACE_LENGTH {
        return Err(format!(
            "at most {NAMESPACE_LENGTH} characters, as '-operator' is appended for another one"
        ));
    }
    if text.chars().all(inner) && edge(text.chars().next()) && edge(text.chars().last()) {
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

// === impl Where ===

impl Where {
    /// Connects for a read-only command: an API server that cannot serve is reported within seconds.
    pub(super) async fn look(&self) -> Result<Cluster, UpError> {
        self.connect(LOOKING).await
    }

    /// Connects for a command that changes the cluster and goes on after a short outage.
    pub(super) async fn change(&self) -> Result<Cluster, UpError> {
        self.connect(CHANGING).await
    }

    async fn connect(&self, patience: Duration) -> Result<Cluster, UpError> {
        let cluster = Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref(), patience).await?;
        let said = Mutex::new(HashSet::new());
        Ok(cluster.noticing(Arc::new(move |line: &str| {
            let is_new = said.lock().is_ok_and(|mut said| said.insert(line.to_owned()));
            if is_new {
                let _ = writeln!(stderr(), "quinistry: {}", plain(line));
            }
        })))
    }
}

// === impl What ===

impl What {
    pub(super) fn wishes(&self) -> Wishes {
        Wishes {
            generations: self.generations,
            base_port: self.base_port,
            carriers: self.carriers.clone(),
            network: self.network,
        }
    }

    pub(super) fn shipment(&self) -> anyhow::Result<Shipment> {
        Ok(match &self.binary {
            None => Shipment::own(names::RESOURCE)?,
            Some(path) => Shipment::of_file(names::RESOURCE, path, self.digest.clone())?,
        })
    }
}

/// Runs a future to its end, or until somebody wants this program to stop.
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

/// One line of `check`.
pub(super) fn line(finding: &Finding, paint: Paint) -> String {
    let (code, word) = match finding.level {
        Level::Ok => (32, "ok  "),
        Level::Note => (33, "note"),
        Level::Fail => (31, "FAIL"),
    };
    let word = if paint.0 { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.into() };
    format!("{word}  {:<12}  {}", finding.subject, plain(&finding.text))
}

/// Colours, for a terminal whose owner likes them. <https://no-color.org>
pub(super) fn paint(is_terminal: bool) -> Paint {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Paint(is_terminal && !unwanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb"))
}

/// The colours of standard output.
pub(super) fn paint_of_stdout() -> Paint {
    paint(stdout().is_terminal())
}

/// A text on standard error that changes: drawn anew on a terminal, told by its new lines elsewhere.
pub(super) struct Live {
    bar: Option<ProgressBar>,
    last: String,
    pub(super) paint: Paint,
}

// === impl Live ===

impl Live {
    pub(super) fn new() -> Self {
        let is_terminal = stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("a constant template");
            ProgressBar::new_spinner().with_style(style)
        });
        Self { bar, last: String::new(), paint: paint(is_terminal) }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// What is going on, which only a terminal shows.
    pub(super) fn murmur(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            bar.tick();
        }
    }

    /// The text as it is now.
    pub(super) fn show(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.trim_end().to_owned());
                bar.tick();
            }
            None => fresh(&self.last, text).for_each(|line| eprintln!("{line}")),
        }
        text.clone_into(&mut self.last);
    }

    /// Nothing more changes; the last text stays where it is.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// The lines that were not there before.
pub(super) fn fresh<'a>(before: &'a str, now: &'a str) -> impl Iterator<Item = &'a str> {
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
        assert_eq!(fresh("a\nb\n", "a\nc\n\n").collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_finding_is_a_line() {
        let finding =
            Finding { level: Level::Note, subject: "nodes", text: "n2\u{1b}[2J".into(), details: Vec::new() };
        assert_eq!(line(&finding, Paint(false)), r"note  nodes         n2\u{1b}[2J");
    }
}
