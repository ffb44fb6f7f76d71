//! The payload of an installation: an executable, its stub, and the digest of the image that it serves.
//!
//! Reads files, and runs another executable to learn its digest: only the executable itself can compute its
//! image.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use quinistry_oci::Content;
use quinistry_oci::Digest;
use quinistry_quine::{Executable, ExecutableError, LayerForm, Quine};

use super::error::InstallError;
use super::version::{self, OWN_VERSION};
use crate::seed::{SplitExecutable, stub_of};

/// Executable to install.
#[derive(Clone, Debug)]
pub struct InstallPayload {
    /// The executable, split into seed parts.
    pub split: SplitExecutable,
    /// Manifest digest that each generation must serve.
    pub digest: Digest,
    /// Architecture of the executable, as in the label `kubernetes.io/arch`.
    pub architecture: &'static str,
    /// Version of the executable; `None` if it cannot run on this machine.
    pub version: Option<String>,
}

// === impl InstallPayload ===

impl InstallPayload {
    /// Takes the executable of this process, for a resource of that name.
    pub fn of_this_executable(resource: &str) -> Result<Self, InstallError> {
        let executable = Executable::current()?;
        let digest = Quine::new(&executable, LayerForm::Tar)?.digest().clone();
        let split = SplitExecutable::of_this(resource, &executable)?;
        let version = Some(OWN_VERSION.to_owned());
        Ok(Self { split, digest, architecture: Executable::architecture(), version })
    }

    /// Takes a file. Without `digest` the file is run to learn it, if this machine can.
    pub fn of_file(resource: &str, path: &Path, digest: Option<Digest>) -> Result<Self, InstallError> {
        let refuse = |why: String| InstallError::Binary { path: path.into(), why };
        let unreadable = |error: std::io::Error| refuse(error.to_string());
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let content = Content::of_file(file, length);
        let architecture = Executable::architecture_of(&content).map_err(|error| {
            refuse(match error {
                ExecutableError::Interpreter(interpreter) => format!(
                    "it needs a program interpreter ({interpreter}), which an empty image does not have; \
                     `cargo build --release` makes a static one"
                ),
                ExecutableError::Machine { found, .. } => {
                    format!("it is for ELF machine {found}; amd64 and arm64 can be shipped")
                }
                ExecutableError::Read(error) => error.to_string(),
                _ => "it is not a 64-bit little-endian ELF file; give an executable of quinistry for linux"
                    .into(),
            })
        })?;
        let stub = stub_of(&content.to_bytes()?).map(Bytes::copy_from_slice).ok_or_else(|| {
            refuse("it carries no stub: it is not quinistry, or one from before `up`".into())
        })?;
        let digest = match digest {
            Some(digest) => digest,
            None if architecture == Executable::architecture() && cfg!(target_os = "linux") => {
                digest_of(path).map_err(refuse)?
            }
            None => {
                return Err(refuse(format!(
                    "it is for {architecture}, so its image's digest cannot be asked for here; run `quinistry image \
                     digest` with it on such a machine, and give what that prints with --digest"
                )));
            }
        };
        let version = if architecture == Executable::architecture() { version_of(path) } else { None };
        Ok(Self { split: SplitExecutable::new(resource, content, stub)?, digest, architecture, version })
    }
}

/// Runs an executable to learn its version; `None` if that fails.
fn version_of(path: &Path) -> Option<String> {
    let output = Command::new(path.canonicalize().ok()?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_whitespace().nth(1)?;
    version::compare(version, version).map(|_| version.to_owned())
}

/// Runs an executable to learn the digest of its image.
fn digest_of(path: &Path) -> Result<Digest, String> {
    // A path with a folder: a bare name would be searched in PATH.
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let output = Command::new(path)
        .args(["image", "digest"])
        .output()
        .map_err(|error| format!("it cannot be run to ask for its image's digest: {error}; give --digest"))?;
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(format!("its `image digest` fails: {}", text_of(&output.stderr)));
    }
    let text = text_of(&output.stdout);
    text.parse().map_err(|_| format!("its `image digest` does not print a digest: '{text}'"))
}
