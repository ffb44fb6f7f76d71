//! `quinistry load`: puts all images of an archive into a registry, and rewrites Kubernetes manifests to them.

mod report;
mod rewrite;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueHint;

use self::report::{Loaded, LoadedImage};
use self::rewrite::Rewriting;
use super::bundle::sources;
use super::exit::UsageError;
use super::output::{self, OutputArgs, Report as _, complain};
use super::remote::{self, ConnectionArgs};
use crate::client::{Bundle, BundleReadError};
use crate::layout::Layout;
use crate::oci::{Digest, RepositoryName};

/// Consequence of an interruption.
const INTERRUPTED: &str = "start the command again: it sends only what is not there";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Archive of `quinistry bundle`, or another OCI archive whose images have full names
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    path: PathBuf,
    #[arg(
        value_name = "REGISTRY",
        value_parser = registry,
        value_hint = ValueHint::Hostname,
        help = "Registry to load into, such as registry.example.com:5000; http:// before it means plain HTTP"
    )]
    registry: RegistryArg,
    /// Then print these Kubernetes manifests with the digests of the loaded images; '-' is standard input
    #[arg(long = "rewrite", value_name = "YAML", value_hint = ValueHint::FilePath)]
    manifests: Option<String>,
    /// Registry in the rewritten manifests, as nodes reach it [default: REGISTRY]
    #[arg(long = "as", value_name = "HOST", value_parser = remote::host, requires = "manifests")]
    pull_host: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Registry to load into.
#[derive(Clone, Debug)]
struct RegistryArg {
    host: String,
    is_plain: bool,
}

/// Parses `HOST[:PORT]`, with `http://` before it for plain HTTP.
fn registry(typed: &str) -> Result<RegistryArg, &'static str> {
    let (host, is_plain) = match typed.strip_prefix("http://") {
        Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), true),
        None => (typed, false),
    };
    Ok(RegistryArg { host: remote::host(host)?, is_plain })
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.manifests.is_some() && self.output.is_json() {
            return Err(UsageError(
                "the manifests go to standard output, so --output json is not possible with --rewrite".into(),
            )
            .into());
        }
        let Self { path, registry, manifests, pull_host, output, mut connection } = self;
        if registry.is_plain && connection.tls != remote::TlsArgs::default() {
            return Err(UsageError(
                "http:// has no TLS: leave it out, or the options about certificates".into(),
            )
            .into());
        }
        connection.plain_http |= registry.is_plain;
        let host = registry.host;
        let bundle = sound(Bundle::read(&Layout::open_archive(&path)?))?;
        // Before the first byte is sent, so that an image that is not bundled is known at once.
        let pull_host = pull_host.as_deref().unwrap_or(&host);
        let rewritten = manifests.map(|file| rewrite_file(&file, &bundle, pull_host)).transpose()?;

        let client = connection.client()?;
        let progress = super::progress::bars_with_total(output.is_quiet());
        let report = super::block_on_unless_interrupted(
            async { Ok(client.load(&bundle, &host, progress).await?) },
            INTERRUPTED,
        )?;
        let images = bundle.images().iter().map(|image| LoadedImage::of(image, &host)).collect();
        let loaded = Loaded::new(host.clone(), images, bundle.blob_bytes(), report);
        match rewritten {
            None => output.print(&loaded),
            Some(text) => {
                if !output.is_quiet() {
                    complain(loaded.text().trim_end());
                }
                output::print(text)
            }
        }
    }
}

/// Returns the bundle, or prints all defects of the archive and fails.
fn sound(read: Result<Bundle, BundleReadError>) -> anyhow::Result<Bundle> {
    let faults = match read {
        Err(BundleReadError::Faulty(faults)) => faults,
        result => return Ok(result?),
    };
    for fault in &faults {
        complain(&format!("defect: {fault}"));
    }
    let number = super::count(faults.len(), "defect");
    anyhow::bail!("{number} of the archive (listed above); nothing was sent")
}

/// Returns the text of a file of manifests with the images of the bundle. Prints the images that the bundle does not
/// have, and fails if a kubelet would pull one of them.
fn rewrite_file(path: &str, bundle: &Bundle, host: &str) -> anyhow::Result<String> {
    let (name, text) = sources::read(path)?;
    let found = sources::find(name, &text)?;
    sources::refuse_malformed(sources::complain_of_malformed(&found))?;
    let rewriting = Rewriting::plan(&found.places, |image| {
        let (repository, digest) = bundle.find(image)?;
        Some(reference(host, repository, &digest))
    });
    for field in &rewriting.missing {
        complain(&super::sanitize(&format!("missing: {field}")));
    }
    if !rewriting.missing.is_empty() {
        let number = super::count(rewriting.missing.len(), "image name");
        anyhow::bail!(
            "{number} of pods without an image in the archive (listed above); bundle the images, too"
        );
    }
    for field in &rewriting.left {
        complain(&super::sanitize(&format!("warning: not replaced: {field}; the archive has no such image")));
    }
    for field in &rewriting.doubtful {
        complain(&super::sanitize(&format!(
            "warning: not replaced: {field}; it has no tag and no digest, or is a label or an annotation"
        )));
    }
    for field in &rewriting.replaced_by_name {
        complain(&super::sanitize(&format!("note: replaced, although not an image of a pod: {field}")));
    }
    rewriting.apply(&text).with_context(|| format!("failed to rewrite {name}"))
}

/// Returns the reference of a loaded image by its digest.
fn reference(host: &str, repository: &RepositoryName, digest: &Digest) -> String {
    format!("{host}/{repository}@{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_and_may_say_that_it_is_plain() {
        for (typed, host, is_plain) in [
            ("registry.lan:5000", "registry.lan:5000", false),
            ("http://127.0.0.1:8090", "127.0.0.1:8090", true),
            ("http://[::1]:8090/", "[::1]:8090", true),
        ] {
            let parsed = registry(typed).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.is_plain), (host, is_plain));
        }
        for typed in ["", "https://x.lan", "http://x.lan/y", "x.lan/y", "ghcr.io/acme/shop:1"] {
            assert!(registry(typed).is_err(), "{typed}");
        }
    }
}
