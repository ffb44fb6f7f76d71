//! `quinistry up`: raises generation 0 on a cluster that holds no image of quinistry.

use std::io::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::cluster::{self, ClusterArgs, InstallArgs, LiveText};
use crate::crd::DEFINITIONS;
use crate::escape;
use crate::install::api::Cluster;
use crate::install::check::{Level, check};
use crate::install::status::StatusSnapshot;
use crate::install::tree::{draw, short};
use crate::install::{
    InstallError, InstallProgress, InstallRequest, InstallWait, install, names, render, yaml,
};

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
        let request =
            InstallRequest { namespace: &self.install.namespace, options: &options, payload: &payload };
        if self.dry_run {
            return cluster::run("nothing was changed", self.print(&request));
        }
        cluster::run("run it again to go on", self.install(&request))
    }

    async fn install(&self, request: &InstallRequest<'_>) -> anyhow::Result<()> {
        let began = Instant::now();
        let cluster = self.cluster.connect_to_change().await?;
        let mut live = LiveText::new();
        self.check(&cluster, request, &live).await?;
        let wait = InstallWait { for_all_generations: self.wait, timeout: Duration::from_secs(self.timeout) };
        let colours = live.colours;
        let installed = install(&cluster, request, wait, &mut |progress| match progress {
            InstallProgress::StepDone(step) => live.print_line(&format!("done  {step}")),
            InstallProgress::StepRunning(step) => live.show_activity(&step),
            InstallProgress::Snapshot(snapshot) => live.update(&draw(snapshot, colours)),
        })
        .await;
        live.finish();
        let seconds = began.elapsed().as_secs_f64();
        super::print(match installed? {
            Some(snapshot) => done(&snapshot, seconds),
            None => format!(
                "generation 0 and the operator are there after {seconds:.1} s; `quinistry status --namespace {}` shows the rest\n",
                request.namespace
            ),
        })
    }

    /// Prints findings that are not ok, and fails if any of them fails.
    async fn check(
        &self,
        cluster: &Cluster,
        request: &InstallRequest<'_>,
        live: &LiveText,
    ) -> anyhow::Result<()> {
        let findings = check(cluster, request, self.downgrade).await?;
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

    async fn print(&self, request: &InstallRequest<'_>) -> anyhow::Result<()> {
        let objects = match self.render(request).await {
            Ok(objects) => objects,
            // A request that the cluster contradicts must not be rendered without the cluster.
            Err(error @ InstallError::Refused(_)) => return Err(error.into()),
            Err(error) => {
                let error = anyhow::Error::from(error);
                let error = super::sanitize(&format!("{error:#}"));
                eprintln!("quinistry: cannot read the cluster ({error}); using default carrier images");
                render(None, request).await?
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

    /// Renders the objects for the nodes and the resource of the cluster.
    async fn render(&self, request: &InstallRequest<'_>) -> Result<Vec<Value>, InstallError> {
        let cluster = self.cluster.connect_to_change().await?;
        render(Some(&cluster), request).await
    }
}

fn documents(out: &mut impl std::io::Write, objects: &[Value]) -> std::io::Result<()> {
    let definitions = DEFINITIONS.map(|(_, yaml)| yaml.trim_end()).join("\n---\n");
    writeln!(out, "{definitions}")?;
    objects.iter().try_for_each(|object| write!(out, "---\n{}", yaml::document(object)))
}

fn list(out: &mut impl std::io::Write, mut objects: Vec<Value>) -> std::io::Result<()> {
    for (at, (_, yaml)) in DEFINITIONS.iter().enumerate() {
        objects.insert(at, quinistry_yaml::from_str(yaml).map_err(std::io::Error::other)?);
    }
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
