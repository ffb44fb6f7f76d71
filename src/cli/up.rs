//! `quinistry up`: generation zero, raised on a cluster that holds nothing of ours.

use std::io::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::cluster::{self, Live, What, Where};
use crate::crd::DEFINITION;
use crate::escape;
use crate::install::api::Cluster;
use crate::install::check::{Level, Question, check};
use crate::install::dry::everything;
use crate::install::raise::{News, Order, raise};
use crate::install::status::Picture;
use crate::install::tree::{draw, short};
use crate::install::{Shipment, UpError, Wishes, names, yaml};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    what: What,

    /// Wait until every generation is proven on every node
    #[arg(long)]
    wait: bool,

    /// How long generation 0, and with --wait the rest, may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,

    /// Replace a newer operator and newer generations by this version; the definition stays
    #[arg(long)]
    downgrade: bool,

    /// Print everything that would be made, and change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,

    /// How to print it
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "yaml", requires = "dry_run")]
    output: Output,

    #[command(flatten)]
    place: Where,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Documents, one after the other
    Yaml,
    /// One list
    Json,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (wishes, shipment) = (self.what.wishes(), self.what.shipment()?);
        if self.dry_run {
            return cluster::run("nothing was changed", self.print(&wishes, &shipment));
        }
        cluster::run("run it again to go on", self.raise(&wishes, &shipment))
    }

    async fn raise(&self, wishes: &Wishes, shipment: &Shipment) -> anyhow::Result<()> {
        let began = Instant::now();
        let cluster = self.place.change().await?;
        let mut live = Live::new();
        self.check(&cluster, wishes, shipment, &live).await?;
        let order = Order {
            namespace: &self.what.namespace,
            wishes,
            shipment,
            wait: self.wait,
            timeout: Duration::from_secs(self.timeout),
        };
        let paint = live.paint;
        let raised = raise(&cluster, &order, &mut |news| match news {
            News::Done(words) => live.say(&format!("done  {words}")),
            News::Doing(words) => live.murmur(&words),
            News::Picture(picture) => live.show(&draw(picture, paint)),
        })
        .await;
        live.end();
        let seconds = began.elapsed().as_secs_f64();
        super::print(match raised? {
            Some(picture) => done(&picture, seconds),
            None => format!(
                "generation 0 and the operator are there after {seconds:.1} s; `quinistry status --namespace {}` shows the rest\n",
                self.what.namespace
            ),
        })
    }

    /// Says what is worth it, and fails with all that fails.
    async fn check(
        &self,
        cluster: &Cluster,
        wishes: &Wishes,
        shipment: &Shipment,
        live: &Live,
    ) -> anyhow::Result<()> {
        let question =
            Question { namespace: &self.what.namespace, wishes, shipment, downgrade: self.downgrade };
        let findings = check(cluster, &question).await?;
        for finding in findings.iter().filter(|finding| finding.level != Level::Ok) {
            live.say(&cluster::line(finding, live.paint));
        }
        let fails = findings.iter().filter(|finding| finding.level == Level::Fail).count();
        anyhow::ensure!(
            fails == 0,
            "{} in the way, as said above; nothing was changed",
            if fails == 1 { "one thing is".into() } else { format!("{fails} things are") }
        );
        Ok(())
    }

    async fn print(&self, wishes: &Wishes, shipment: &Shipment) -> anyhow::Result<()> {
        let namespace = &self.what.namespace;
        let objects = match self.look(wishes, shipment).await {
            Ok(objects) => objects,
            // What contradicts the cluster is no reason to look away from it.
            Err(error @ UpError::Refused(_)) => return Err(error.into()),
            Err(error) => {
                let error = anyhow::Error::from(error);
                let error = super::plain(&format!("{error:#}"));
                eprintln!("quinistry: no cluster is looked at ({error}); carriers are guessed");
                everything(None, namespace, wishes, shipment).await?
            }
        };
        let mut out = std::io::stdout().lock();
        let written = match self.output {
            Output::Yaml => documents(&mut out, &objects),
            Output::Json => list(&mut out, objects),
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    async fn look(&self, wishes: &Wishes, shipment: &Shipment) -> Result<Vec<Value>, UpError> {
        let cluster = self.place.change().await?;
        everything(Some(&cluster), &self.what.namespace, wishes, shipment).await
    }
}

fn documents(out: &mut impl std::io::Write, objects: &[Value]) -> std::io::Result<()> {
    writeln!(out, "{}", DEFINITION.trim_end())?;
    objects.iter().try_for_each(|object| write!(out, "---\n{}", yaml::document(object)))
}

fn list(out: &mut impl std::io::Write, mut objects: Vec<Value>) -> std::io::Result<()> {
    let definition = serde_saphyr::from_str(DEFINITION).map_err(std::io::Error::other)?;
    objects.insert(0, definition);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(&list)?))
}

fn done(picture: &Picture, seconds: f64) -> String {
    let nodes = picture.status.generations.last().map_or(0, |last| last.available);
    let mut ports = picture.status.generations.iter().filter(|one| one.generation > 0).map(|one| one.port);
    let first = ports.next().unwrap_or_default();
    let last = ports.next_back().map_or_else(String::new, |last| format!(" … {last}"));
    let digest = picture.status.digest.as_deref().map(short).unwrap_or_default();
    format!(
        "done in {seconds:.1} s: localhost:{first}{last} on {nodes} nodes serve {}@{digest}\n",
        names::RESOURCE
    )
}
