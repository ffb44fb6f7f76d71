//! The chain on one machine: generation after generation, each pulled from the one before.
//!
//! Generation 1 is a given executable. Each next one is pulled by digest from its predecessor's port on
//! `localhost`, verified byte by byte, unpacked, run on the next port and asked for its manifest. The first
//! deviation stops the chain. Prints nothing and runs no containers, which is Kubernetes' part. Called by
//! `quinistry bootstrap`.

mod process;
mod unpack;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::process::{Ended, Process};
use self::unpack::Unpacked;
use crate::client::{Client, ClientError, Document};
use crate::oci::{Descriptor, Digest, ImageManifest, ImageReference, Reference};
use crate::quine::{LayerForm, Quine, REPOSITORY};

/// Time limit for a generation's first response: longer than any start on a slow machine takes.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// Description of the chain to raise.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of generations, at least one.
    pub generations: u16,
    /// Port of generation 1; generation *n* listens on `base_port + n - 1`. 0: any free ports.
    pub base_port: u16,
    /// Form in which layers are stored.
    pub form: LayerForm,
    /// Fixed point that every generation must serve.
    pub digest: Digest,
    /// Executable of generation 1.
    pub first: PathBuf,
}

impl Plan {
    /// Plans the chain that begins with the executable of this process, whose image is `quine`.
    #[must_use]
    pub fn of_this_executable(quine: &Quine, generations: u16, base_port: u16) -> Self {
        Self {
            generations,
            base_port,
            form: quine.form(),
            digest: quine.digest().clone(),
            // Not its path: the file may have been moved, replaced or deleted since the start.
            first: "/proc/self/exe".into(),
        }
    }

    fn port(&self, generation: u16) -> Option<u16> {
        if self.base_port == 0 { Some(0) } else { self.base_port.checked_add(generation - 1) }
    }
}

/// Generation that has been proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Number of the generation, from 1.
    pub number: u16,
    /// Port on loopback that the generation listens on.
    pub port: u16,
    /// ID of the generation's process.
    pub pid: u32,
    /// Digest of the manifest that the generation serves.
    pub digest: Digest,
    /// Number of bytes that were pulled from the predecessor; 0 for generation 1.
    pub bytes: u64,
    /// Time from the beginning of the pull to the proof.
    pub elapsed: Duration,
}

/// Deviation that stopped the chain.
#[derive(Debug, thiserror::Error)]
#[error("generation {generation}")]
pub struct ChainDeviation {
    /// Number of the generation that is not as expected.
    pub generation: u16,
    /// Difference from what was expected.
    #[source]
    pub reason: DeviationReason,
}

/// Reason why a generation is not as expected.
#[derive(Debug, thiserror::Error)]
pub enum DeviationReason {
    /// The generation's port would be above 65,535.
    #[error("there is no port for it: choose a lower --base-port or fewer generations")]
    NoPort,
    /// Another process listens on the port.
    #[error("failed to listen on 127.0.0.1:{port} (choose other ports with --base-port)")]
    PortTaken {
        /// Port that is taken.
        port: u16,
        /// Error of the system.
        source: io::Error,
    },
    /// The predecessor did not serve the image.
    #[error("failed to pull {image}")]
    Pull {
        /// Image to pull.
        image: ImageReference,
        /// Error of the client.
        source: Box<ClientError>,
    },
    /// The predecessor serves an image of another shape than quinistry's.
    #[error("{image} is not an image with one layer")]
    Image {
        /// Image that was pulled.
        image: ImageReference,
    },
    /// The layer is malformed, or writing it to the temporary folder failed.
    #[error("failed to unpack its layer (choose another place with TMPDIR)")]
    Unpack(#[source] io::Error),
    /// The unpacked file cannot be run: the file system is mounted `noexec`, or the file is not an
    /// executable.
    #[error("failed to run {} (is it on a file system mounted noexec? choose another place with TMPDIR)", path.display())]
    Run {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The process ended.
    #[error("its process ended with {status}{last_words}")]
    Died {
        /// Exit status, or the error of waiting for it.
        status: String,
        /// Last line that the process wrote to standard error, after a colon.
        last_words: String,
    },
    /// The process runs, but a request to it fails.
    #[error("it does not answer on port {port}")]
    Unreachable {
        /// Port of the generation.
        port: u16,
        /// Error of the client.
        source: Box<ClientError>,
    },
    /// The process sent no response in time.
    #[error("it gave no answer on port {port} within {} seconds", RESPONSE_TIMEOUT.as_secs())]
    TimedOut {
        /// Port of the generation.
        port: u16,
    },
    /// The generation serves another image than the fixed point.
    #[error("it serves {found}, but the fixed point is {expected}")]
    DigestDiffers {
        /// Fixed point.
        expected: Digest,
        /// Digest that the generation serves.
        found: Digest,
    },
}

impl DeviationReason {
    fn died(ended: io::Result<Ended>) -> Self {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => return Self::Died { status: error.to_string(), last_words: String::new() },
        };
        let last_words = ended.last_words.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
        Self::Died { status: ended.status.to_string(), last_words }
    }
}

/// Running generations, which are killed when this is dropped.
#[derive(Debug, Default)]
pub struct Chain {
    processes: Vec<Process>,
}

impl Chain {
    /// Raises the planned generations in order, and calls `on_proven` with each. On a deviation the
    /// generations that run are stopped before the error is returned.
    ///
    /// Must run on a thread that lives as long as the chain: the kernel ends the generations with it.
    pub async fn raise(
        plan: &Plan,
        client: &Client,
        mut on_proven: impl FnMut(&Generation),
    ) -> Result<Self, ChainDeviation> {
        let mut chain = Self::default();
        let mut predecessor = None;
        for number in 1..=plan.generations {
            match chain.add(plan, client, number, predecessor).await {
                Ok(generation) => {
                    on_proven(&generation);
                    predecessor = Some(generation.port);
                }
                Err(reason) => {
                    chain.stop().await;
                    return Err(ChainDeviation { generation: number, reason });
                }
            }
        }
        Ok(chain)
    }

    async fn add(
        &mut self,
        plan: &Plan,
        client: &Client,
        number: u16,
        predecessor: Option<u16>,
    ) -> Result<Generation, DeviationReason> {
        let begun = Instant::now();
        let port = plan.port(number).ok_or(DeviationReason::NoPort)?;
        // Before the pull, so that a taken port is reported at once.
        let listener = process::bind(port).map_err(|source| DeviationReason::PortTaken { port, source })?;
        let port =
            listener.local_addr().map_err(|source| DeviationReason::PortTaken { port, source })?.port();

        let (bytes, process) = match predecessor {
            None => (0, start(&plan.first, listener, plan.form)?),
            Some(predecessor) => {
                let image = image(predecessor, Reference::Digest(plan.digest.clone()));
                let (layer, bytes) = pull(client, &image).await?;
                let unpacked = Unpacked::new(&layer, plan.form).map_err(DeviationReason::Unpack)?;
                // The file is not needed once the process runs: the process itself is the backup of its
                // image.
                (bytes, start(&unpacked.executable(), listener, plan.form)?)
            }
        };
        self.processes.push(process);
        let process = self.processes.last_mut().expect("it was just added");
        let digest = prove(process, client, port, &plan.digest).await?;
        Ok(Generation { number, port, pid: process.pid(), digest, bytes, elapsed: begun.elapsed() })
    }

    /// Waits until a generation ends by itself, which is a deviation.
    pub async fn wait_for_deviation(&mut self) -> ChainDeviation {
        let ends = self.processes.iter_mut().map(|process| Box::pin(process.ended()));
        let (ended, index, _) = futures_util::future::select_all(ends).await;
        ChainDeviation {
            generation: u16::try_from(index + 1).unwrap_or(u16::MAX),
            reason: DeviationReason::died(ended),
        }
    }

    /// Stops all generations and waits until they have ended.
    pub async fn stop(mut self) {
        self.processes.iter().for_each(Process::ask_to_stop);
        for process in &mut self.processes {
            process.wait_stopped().await;
        }
    }
}

fn start(executable: &Path, listener: TcpListener, form: LayerForm) -> Result<Process, DeviationReason> {
    Process::start(executable, listener, form)
        .map_err(|source| DeviationReason::Run { path: executable.into(), source })
}

fn image(port: u16, reference: Reference) -> ImageReference {
    let repository = REPOSITORY.parse().expect("our repository's name is one");
    ImageReference::new(&format!("localhost:{port}"), repository, reference)
        .expect("localhost and a port are a host")
}

/// Fetches the whole image and checks every byte; returns the layer and the number of bytes fetched.
async fn pull(client: &Client, image: &ImageReference) -> Result<(Bytes, u64), DeviationReason> {
    let failed = |source| DeviationReason::Pull { image: image.clone(), source: Box::new(source) };
    let manifest = client.manifest(image).await.map_err(failed)?;
    let Document::Image(ImageManifest { config, layers, .. }) = manifest.document().map_err(failed)? else {
        return Err(DeviationReason::Image { image: image.clone() });
    };
    let [layer] = &layers[..] else { return Err(DeviationReason::Image { image: image.clone() }) };
    let config = fetch(client, image, &config).await.map_err(failed)?;
    let layer = fetch(client, image, layer).await.map_err(failed)?;
    let bytes = (manifest.bytes.len() + config.len() + layer.len()) as u64;
    Ok((layer, bytes))
}

/// Fetches a blob into memory: an executable that is about to run has to fit there anyway.
async fn fetch(client: &Client, image: &ImageReference, blob: &Descriptor) -> Result<Bytes, ClientError> {
    client.blob(image, blob).await?.read_to_end().await
}

/// Requests a generation's manifest by tag, as any client would, and compares its digest.
async fn prove(
    process: &mut Process,
    client: &Client,
    port: u16,
    expected: &Digest,
) -> Result<Digest, DeviationReason> {
    let image = image(port, "latest".parse().expect("'latest' is a reference"));
    let answer = tokio::select! {
        // The exit of the process explains more than the broken connection that follows from it.
        biased;
        ended = process.ended() => return Err(DeviationReason::died(ended)),
        answer = tokio::time::timeout(RESPONSE_TIMEOUT, client.manifest(&image)) => answer,
    };
    let manifest = answer
        .map_err(|_| DeviationReason::TimedOut { port })?
        .map_err(|error| DeviationReason::Unreachable { port, source: Box::new(error) })?;
    let found = manifest.descriptor.digest;
    if found == *expected {
        Ok(found)
    } else {
        Err(DeviationReason::DigestDiffers { expected: expected.clone(), found })
    }
}
