//! `quinistry up`: raises generation 0 on a cluster that holds no image of quinistry.

use std::io::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::cluster::{self, ClusterArgs, InstallArgs, LiveText};
use crate::crd::DEFINITION_YAML;
use crate::escape;
use crate::install::api::Cluster;
use crate::install::check::{InstallRequest, Level, check};
use crate::install::install::{InstallProgress, InstallRequest, raise};
use crate::install::render::everything;
use crate::install::status::StatusSnapshot;
use crate::install::tree::{draw, short};
use crate::install::{InstallError, Payload, ResourceOptions, names, yaml};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    install: InstallArgs,

    /// Wait until every generation is proven on every node
    #[arg(long)]
    wait: bool,

    /// Time that generation 0, and with --wait the rest, may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,

    /// Replace a newer operator and newer generations by this version; the definition stays
    #[arg(long)]
    downgrade: bool,

    /// Print everything that would be made, and change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,

    /// Format of the printed objects
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "yaml", requires = "dry_run")]
    output: RenderFormat,

    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RenderFormat {
    /// Documents, one after the other
    Yaml,
    /// One list
    Json,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (options, payload) = (self.install.options(), self.install.payload()?);
        if self.dry_run {
            return cluster::run("nothing was changed", self.print(&options, &payload));
        }
        cluster::run("run it again to go on", self.raise(&options, &payload))
    }

    async fn raise(&self, options: &ResourceOptions, payload: &Payload) -> anyhow::Result<()> {
        let began = Instant::now();
        let cluster = self.cluster.connect_to_change().await?;
        let mut live = LiveText::new();
        self.check(&cluster, options, payload, &live).await?;
        let order = InstallRequest {
            namespace: &self.install.namespace,
            options,
            payload,
            wait: self.wait,
            timeout: Duration::from_secs(self.timeout),
        };
        let colours = live.colours;
        let raised = raise(&cluster, &order, &mut |news| match news {
            InstallProgress::Done(words) => live.print_line(&format!("done  {words}")),
            InstallProgress::Doing(words) => live.show_activity(&words),
            InstallProgress::StatusSnapshot(snapshot) => live.update(&draw(snapshot, colours)),
        })
        .await;
        live.finish();
        let seconds = began.elapsed().as_secs_f64();
        super::print(match raised? {
            Some(snapshot) => done(&snapshot, seconds),
            None => format!(
                "generation 0 and the operator are there after {seconds:.1} s; `quinistry status --namespace {}` shows the rest\n",
                self.install.namespace
            ),
        })
    }

    /// Prints findings that are not ok, and fails if any of them fails.
    async fn check(
        &self,
        cluster: &Cluster,
        options: &ResourceOptions,
        payload: &Payload,
        live: &LiveText,
    ) -> anyhow::Result<()> {
        let question = InstallRequest {
            namespace: &self.install.namespace,
            options,
            payload,
            downgrade: self.downgrade,
        };
        let findings = check(cluster, &question).await?;
        for finding in findings.iter().filter(|finding| finding.level != Level::Ok) {
            live.print_line(&cluster::finding_line(finding, live.colours));
        }
        let fails = findings.iter().filter(|finding| finding.level == Level::Fail).count();
        anyhow::ensure!(
            fails == 0,
            "{} in the way, as said above; nothing was changed",
            if fails == 1 { "one thing is".into() } else { format!("{fails} things are") }
        );
        Ok(())
    }

    async fn print(&self, options: &ResourceOptions, payload: &Payload) -> anyhow::Result<()> {
        let namespace = &self.install.namespace;
        let objects = match self.look(options, payload).await {
            Ok(objects) => objects,
            // A request that the cluster contradicts must not be rendered without the cluster.
            Err(error @ InstallError::Refused(_)) => return Err(error.into()),
            Err(error) => {
                let error = anyhow::Error::from(error);
                let error = super::sanitize(&format!("{error:#}"));
                eprintln!("quinistry: cannot read the cluster ({error}); using default carrier images");
                everything(None, namespace, options, payload).await?
            }
        };
        let mut out = std::io::stdout().lock();
        let written = match self.output {
            RenderFormat::Yaml => documents(&mut out, &objects),
            RenderFormat::Json => list(&mut out, objects),
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    async fn look(&self, options: &ResourceOptions, payload: &Payload) -> Result<Vec<Value>, InstallError> {
        let cluster = self.cluster.connect_to_change().await?;
        everything(Some(&cluster), &self.install.namespace, options, payload).await
    }
}

fn documents(out: &mut impl std::io::Write, objects: &[Value]) -> std::io::Result<()> {
    writeln!(out, "{}", DEFINITION_YAML.trim_end())?;
    objects.iter().try_for_each(|object| write!(out, "---\n{}", yaml::document(object)))
}

fn list(out: &mut impl std::io::Write, mut objects: Vec<Value>) -> std::io::Result<()> {
    let definition = serde_saphyr::from_str(DEFINITION_YAML).map_err(std::io::Error::other)?;
    objects.insert(0, definition);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(&list)?))
}

fn done(snapshot: &StatusSnapshot, seconds: f64) -> String {
    let nodes = snapshot.status.generations.last().map_or(0, |last| last.available);
    let mut ports = snapshot.status.generations.iter().filter(|one| one.generation > 0).map(|one| one.port);
    let first = ports.next().unwrap_or_default();
    let last = ports.next_back().map_or_else(String::new, |last| format!(" … {last}"));
    let digest = snapshot.status.digest.as_deref().map(short).unwrap_or_default();
    format!(
        "done in {seconds:.1} s: localhost:{first}{last} on {nodes} nodes serve {}@{digest}\n",
        names::RESOURCE
    )
}
