//! `quinistry up`: raises generation 0 on a cluster that holds no image of quinistry, and delivers images to its nodes.

mod delivery;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{ValueEnum, ValueHint};
use serde_json::{Value, json};

use self::delivery::Delivery;
use super::cluster::{self, ClusterArgs, InstallArgs, LiveText};
use super::output::complain;
use crate::crd::{DEFAULT_COPIES, DEFINITIONS, MAX_COPIES};
use crate::escape;
use crate::install::api::Cluster;
use crate::install::check::{Level, check};
use crate::install::status::StatusSnapshot;
use crate::install::store::usual_copies;
use crate::install::tree::{draw, short};
use crate::install::{
    InstallError, InstallPayload, InstallProgress, InstallRequest, ResourceOptions, install, names, render,
    wait_until_proven, yaml,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    install: InstallArgs,

    /// Ask for stores, load the images of this archive of `quinistry bundle` into them, and apply a Bundle with their
    /// names; the name of FILE is that of the Bundle
    #[arg(long = "with", value_name = "FILE", value_hint = ValueHint::FilePath)]
    archive: Option<PathBuf>,

    /// Ask for this number of stores, nodes that hold the images of applications [default with --with: 3, or the number
    /// of nodes if that is less]
    #[arg(long, value_name = "COPIES", value_parser = clap::value_parser!(i32).range(1..=i64::from(MAX_COPIES)))]
    stores: Option<i32>,

    /// Wait until every generation is proven on every node, and the images of --with are available there
    #[arg(long)]
    wait: bool,

    /// Time limit of each wait: for generation 0; with --with, for the stores; with --wait, for the rest
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
        let archive = self.archive.as_deref();
        let delivery = archive.map(|path| Delivery::read(path, &self.install.namespace)).transpose()?;
        let payload = self.install.payload()?;
        if self.dry_run {
            return cluster::run("nothing was changed", self.print(&payload, delivery.as_ref()));
        }
        cluster::run("run it again to go on", self.install(&payload, delivery.as_ref()))
    }

    fn request<'a>(
        &'a self,
        options: &'a ResourceOptions,
        payload: &'a InstallPayload,
    ) -> InstallRequest<'a> {
        let namespace = &self.install.namespace;
        InstallRequest { namespace, options, payload, loads_images: self.archive.is_some() }
    }

    /// Returns the options of the resource, with stores for the images of --with if it has none.
    async fn options(
        &self,
        cluster: &Cluster,
        payload: &InstallPayload,
    ) -> Result<ResourceOptions, InstallError> {
        let mut options = ResourceOptions { stores: self.stores, ..self.install.options() };
        if self.archive.is_some() && self.stores.is_none() {
            options.stores = usual_copies(cluster, &self.request(&options, payload)).await?;
        }
        Ok(options)
    }

    async fn install(&self, payload: &InstallPayload, delivery: Option<&Delivery>) -> anyhow::Result<()> {
        let (began, timeout) = (Instant::now(), Duration::from_secs(self.timeout));
        let cluster = self.cluster.connect_to_change().await?;
        let live = &mut LiveText::new();
        self.check(&cluster, &self.request(&self.install.options(), payload), live).await?;
        let options = self.options(&cluster, payload).await?;
        let result = self.raise(&cluster, &self.request(&options, payload), (delivery, timeout), live).await;
        live.finish();
        let seconds = began.elapsed().as_secs_f64();
        super::print(match result? {
            Some(snapshot) => done(&snapshot, seconds),
            None => format!(
                "generation 0 and the operator are there after {seconds:.1} s; `quinistry status --namespace {}` shows the rest\n",
                self.install.namespace
            ),
        })
    }

    /// Installs everything, and delivers the images. Returns the last state of the generations if they were waited for.
    async fn raise(
        &self,
        cluster: &Cluster,
        request: &InstallRequest<'_>,
        (delivery, timeout): (Option<&Delivery>, Duration),
        live: &mut LiveText,
    ) -> anyhow::Result<Option<StatusSnapshot>> {
        install(cluster, request, timeout, &mut |progress| show(live, progress)).await?;
        // Before the other generations are proven: a node that is away holds up their proof, and no load.
        if let Some(delivery) = delivery {
            delivery.run(cluster, timeout, live).await?;
        }
        if !self.wait {
            return Ok(None);
        }
        let proven =
            wait_until_proven(cluster, request, timeout, &mut |progress| show(live, progress)).await?;
        if let Some(delivery) = delivery {
            delivery.wait(cluster, timeout, live).await?;
        }
        Ok(Some(proven))
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

    async fn print(&self, payload: &InstallPayload, delivery: Option<&Delivery>) -> anyhow::Result<()> {
        let mut objects = match self.render(payload).await {
            Ok(objects) => objects,
            // A request that the cluster contradicts must not be rendered without the cluster.
            Err(error @ InstallError::Refused(_)) => return Err(error.into()),
            Err(error) => {
                let error = anyhow::Error::from(error);
                let error = super::sanitize(&format!("{error:#}"));
                complain(&format!(
                    "quinistry: cannot read the cluster ({error}); using default carrier images"
                ));
                let usual = self.archive.as_ref().map(|_| DEFAULT_COPIES);
                let stores = self.stores.or(usual);
                let options = ResourceOptions { stores, ..self.install.options() };
                render(None, &self.request(&options, payload)).await?
            }
        };
        if let (Some(delivery), Some(path)) = (delivery, &self.archive) {
            objects.push(delivery.object().clone());
            complain(&super::sanitize(&format!(
                "quinistry: the images are not part of this: load them with `quinistry load {}` when the stores run",
                path.display()
            )));
        }
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
    async fn render(&self, payload: &InstallPayload) -> Result<Vec<Value>, InstallError> {
        let cluster = self.cluster.connect_to_change().await?;
        let options = self.options(&cluster, payload).await?;
        render(Some(&cluster), &self.request(&options, payload)).await
    }
}

/// Shows the progress of a step.
fn show(live: &mut LiveText, progress: InstallProgress<'_>) {
    let colours = live.colours;
    match progress {
        InstallProgress::StepDone(step) => live.print_line(&format!("done  {step}")),
        InstallProgress::StepRunning(step) => live.show_activity(&step),
        InstallProgress::Waiting(text) => live.update(&super::sanitize(&text)),
        InstallProgress::Snapshot(snapshot) => live.update(&draw(snapshot, colours)),
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
