//! `quinistry bootstrap`: the chain on this machine, shown as it grows.

use std::io;

use anyhow::Context as _;
use serde::Serialize;

use super::output::{self, OutputArgs};
use super::{LayerArg, port_holder};
use crate::chain::{Chain, ChainDeviation, DeviationReason, Generation, Plan};
use crate::client::{Client, ClientOptions};
use crate::quine::{Executable, Quine};
use crate::shutdown::Signals;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Number of generations to raise
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    generations: u16,

    /// Port of generation 1; the others listen on the ports above. 0 picks free ports
    #[arg(long, value_name = "PORT", default_value_t = 5000)]
    base_port: u16,

    /// Compression of the layers
    #[arg(long, value_name = "FORM", default_value = "tar")]
    layer: LayerArg,

    /// Go on serving all generations until interrupted
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BootstrapReport<'a> {
    generations: Vec<GenerationReport<'a>>,
    /// True if all generations serve the fixed point; null if a generation never served, with nothing to
    /// compare.
    fixed_point: Option<bool>,
    deviation: Option<DeviationReport>,
}

#[derive(Debug, Serialize)]
struct GenerationReport<'a> {
    generation: u16,
    port: u16,
    pid: u32,
    digest: &'a str,
    bytes: u64,
    milliseconds: f64,
}

#[derive(Debug, Serialize)]
struct DeviationReport {
    generation: u16,
    reason: String,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let highest = u32::from(self.base_port) + u32::from(self.generations) - 1;
        anyhow::ensure!(
            self.base_port == 0 || u16::try_from(highest).is_ok(),
            "{} generations from port {} on would need port {highest}, and the highest is 65535",
            self.generations,
            self.base_port,
        );
        let executable = Executable::current()?;
        let quine = Quine::new(&executable, self.layer.into())?;
        let plan = Plan::of_this_executable(&quine, self.generations, self.base_port);
        // The kernel ends the generations with this thread, which lives as long as the process.
        super::runtime()?.block_on(self.raise(&plan))
    }

    async fn raise(self, plan: &Plan) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("failed to listen for signals")?;
        let client = Client::new(ClientOptions::default())?;
        let mut report = Printer { output: self.output, proven: Vec::new() };
        let raised = tokio::select! {
            // Dropping the chain kills its processes.
            () = signals.next() => anyhow::bail!("interrupted; all generations are stopped"),
            raised = Chain::raise(plan, &client, |generation| report.proven(generation)) => raised,
        };
        match raised {
            Ok(mut chain) => {
                output::go_on_unread(report.end(None))?;
                if self.keep {
                    if report.is_text() {
                        output::go_on_unread(super::print("serving until interrupted (Ctrl-C)\n"))?;
                    }
                    tokio::select! {
                        () = signals.next() => {}
                        deviation = chain.wait_for_deviation() => {
                            chain.stop().await;
                            return Err(deviation.into());
                        }
                    }
                }
                chain.stop().await;
                Ok(())
            }
            Err(deviation) => {
                output::go_on_unread(report.end(Some(&deviation)))?;
                Err(named(deviation))
            }
        }
    }
}

struct Printer {
    output: OutputArgs,
    proven: Vec<Generation>,
}

impl Printer {
    fn proven(&mut self, generation: &Generation) {
        if self.is_text() {
            // A failure to write must not end the chain; the final report fails again.
            let _ = super::print(format!("{}\n", line(generation)));
        }
        self.proven.push(generation.clone());
    }

    fn is_text(&self) -> bool {
        !self.output.is_json() && !self.output.is_quiet()
    }

    fn end(&self, deviation: Option<&ChainDeviation>) -> anyhow::Result<()> {
        self.output.print(&BootstrapReport {
            generations: self.proven.iter().map(GenerationReport::from).collect(),
            fixed_point: fixed_point(deviation),
            deviation: deviation.map(DeviationReport::from),
        })
    }
}

/// Returns true if all generations served the same content, as far as that was found out.
fn fixed_point(deviation: Option<&ChainDeviation>) -> Option<bool> {
    match deviation.map(|deviation| &deviation.reason) {
        None => Some(true),
        Some(DeviationReason::DigestDiffers { .. }) => Some(false),
        Some(_) => None,
    }
}

/// Names the process that holds a taken port, if it can be seen.
fn named(deviation: ChainDeviation) -> anyhow::Error {
    let holder = match &deviation.reason {
        DeviationReason::PortTaken { port, source } if source.kind() == io::ErrorKind::AddrInUse => {
            port_holder::of(*port)
        }
        _ => None,
    };
    let error = anyhow::Error::from(deviation);
    match holder {
        Some(holder) => anyhow::anyhow!("{error:#}: it is held by {holder}"),
        None => error,
    }
}

impl output::Report for BootstrapReport<'_> {
    /// Formats the end of the tree.
    fn text(&self) -> String {
        let digest = self.generations.last().map(|last| format!("\ndigest: {}\n", last.digest));
        let fixed_point = match self.fixed_point {
            Some(true) => "fixed point: yes\n",
            Some(false) => "fixed point: no\n",
            None => "",
        };
        digest.unwrap_or_default() + fixed_point
    }

    fn essence(&self) -> String {
        let last = self.generations.last().filter(|_| self.fixed_point == Some(true));
        last.map(|last| format!("{}\n", last.digest)).unwrap_or_default()
    }
}

impl<'a> From<&'a Generation> for GenerationReport<'a> {
    fn from(generation: &'a Generation) -> Self {
        Self {
            generation: generation.number,
            port: generation.port,
            pid: generation.pid,
            digest: generation.digest.as_str(),
            bytes: generation.bytes,
            milliseconds: (generation.elapsed.as_secs_f64() * 1e6).round() / 1e3,
        }
    }
}

impl From<&ChainDeviation> for DeviationReport {
    fn from(deviation: &ChainDeviation) -> Self {
        let reason =
            anyhow::Chain::new(&deviation.reason).map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self { generation: deviation.generation, reason }
    }
}

/// Formats one branch of the tree. The digest is shortened to fit a terminal; the last line has it whole.
fn line(generation: &Generation) -> String {
    let depth = usize::from(generation.number - 1);
    let branch =
        if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat((depth - 1).min(8))) };
    let origin = match generation.bytes {
        0 => "this executable".to_owned(),
        bytes => format!("pulled {}", super::format_bytes(bytes)),
    };
    format!(
        "{branch}generation {}  localhost:{}  pid {}  sha256:{:.12}…  {origin}  {:.0} ms",
        generation.number,
        generation.port,
        generation.pid,
        generation.digest.hex(),
        generation.elapsed.as_secs_f64() * 1e3,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oci::Digest;

    #[test]
    fn the_tree_grows_to_the_right() {
        let generation = |number, bytes| Generation {
            number,
            port: 4999 + number,
            pid: 42,
            digest: Digest::sha256(b""),
            bytes,
            elapsed: Duration::from_micros(12_400),
        };
        assert_eq!(
            line(&generation(1, 0)),
            "generation 1  localhost:5000  pid 42  sha256:e3b0c44298fc…  this executable  12 ms"
        );
        assert_eq!(
            line(&generation(3, 5_100_000)),
            "   └─ generation 3  localhost:5002  pid 42  sha256:e3b0c44298fc…  pulled 5.1 MB  12 ms"
        );
    }
}
