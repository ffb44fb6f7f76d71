//! `quinistry load`: puts all images of an archive into a registry or the store of a cluster, and prints Kubernetes
//! manifests that use them.

pub(super) mod bundle_object;
pub(super) mod into_store;
pub(super) mod report;
mod rewrite;
mod room;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use serde_json::Value;

use self::into_store::StoreArgs;
use self::report::{LoadDestination, Loaded, LoadedImage};
use self::rewrite::Rewriting;
use super::bundle::sources;
use super::exit::UsageError;
use super::output::{self, OutputArgs, Report as _, complain};
use super::remote::{self, ConnectionArgs};
use crate::client::{Bundle, BundleReadError, LoadReport};
use crate::install::store::Store;
use crate::install::yaml;
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
        help = "Registry to load into, such as registry.example.com:5000; http:// before it means plain HTTP [default: the \
                store of a cluster]"
    )]
    registry: Option<RegistryArg>,
    /// Then print these Kubernetes manifests with the digests of the loaded images; '-' is standard input
    #[arg(long = "rewrite", value_name = "YAML", value_hint = ValueHint::FilePath)]
    manifests: Option<String>,
    /// Registry in the rewritten manifests, as nodes reach it [default: REGISTRY, or localhost with the port of
    /// generation 1]
    #[arg(long = "as", value_name = "HOST", value_parser = remote::host, requires = "manifests")]
    pull_host: Option<String>,
    /// Then print a Bundle for kubectl, which gives the loaded images their tags in a cluster [default NAME: of FILE]
    #[arg(
        long = "bundle",
        value_name = "NAME",
        value_parser = bundle_object::name,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    bundle_name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    store: StoreArgs,
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

/// Result of a load, and what is printed beside it.
struct Done {
    loaded: Loaded,
    /// Documents for standard output.
    documents: Vec<String>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        self.check()?;
        let bundle = read_bundle(&self.path)?;
        let output = self.output;
        let Done { loaded, documents } = match self.registry.clone() {
            Some(registry) => self.load_into_registry(&bundle, registry)?,
            None => super::block_on_unless_interrupted(self.load_into_store(&bundle), INTERRUPTED)?,
        };
        if documents.is_empty() {
            return output.print(&loaded);
        }
        if !output.is_quiet() {
            complain(loaded.text().trim_end());
        }
        output::print(bundle_object::stream(&documents))
    }

    /// Refuses options that contradict each other.
    fn check(&self) -> Result<(), UsageError> {
        let is_plain = self.registry.as_ref().is_some_and(|registry| registry.is_plain);
        let why = if self.manifests.is_some() && self.output.is_json() {
            "the manifests go to standard output, so --output json is not possible with --rewrite"
        } else if is_plain && self.connection.tls != remote::TlsArgs::default() {
            "http:// has no TLS: leave it out, or the options about certificates"
        } else if self.registry.is_some() && self.store.is_given() {
            "REGISTRY and the options of a cluster exclude each other"
        } else if self.registry.is_none() && !self.connection.is_default() {
            "without REGISTRY the images go into the store of a cluster, whose connection the kubeconfig describes: leave out \
             the options of connections to registries, or name REGISTRY"
        } else {
            return Ok(());
        };
        Err(UsageError(why.into()))
    }

    fn load_into_registry(self, bundle: &Bundle, registry: RegistryArg) -> anyhow::Result<Done> {
        let RegistryArg { host, is_plain } = registry;
        let documents = self.documents(bundle, &host, None)?;
        let mut connection = self.connection;
        connection.plain_http |= is_plain;
        let client = connection.client()?;
        let progress = super::progress::bars_with_total(self.output.is_quiet());
        let report = super::block_on_unless_interrupted(
            async { Ok(client.load(bundle, &host, progress).await?) },
            INTERRUPTED,
        )?;
        Ok(documents.done(bundle, &host, LoadDestination::Registry(host.clone()), report))
    }

    async fn load_into_store(self, bundle: &Bundle) -> anyhow::Result<Done> {
        let store = self.store.find().await?;
        let host = self.pull_host.clone().unwrap_or_else(|| format!("localhost:{}", store.base_port()));
        let documents = self.documents(bundle, &host, Some(store.namespace()))?;
        let (report, pod) = into_store::load(bundle, &store, self.output.is_quiet()).await?;
        if self.bundle_name.is_none() && !self.output.is_quiet() {
            self.advise_names(bundle, &store).await;
        }
        Ok(documents.done(bundle, &host, LoadDestination::store(&store, pod), report))
    }

    /// Prints how the loaded images get names, unless the cluster has them. Nodes pull nothing that has no name.
    async fn advise_names(&self, bundle: &Bundle, store: &Store) {
        let name = bundle_object::name_of(&self.path);
        // An archive of too many names is split, as --bundle says.
        let Ok(object) = bundle_object::bundle_object(&name, Some(store.namespace()), bundle.images()) else {
            return;
        };
        if !store.has_names(&object).await {
            complain(&super::sanitize(&format!(
                "note: nodes cannot pull these images before a Bundle names them: `quinistry load {} --bundle | kubectl apply \
                 -f -` applies one, and sends nothing again",
                self.path.display()
            )));
        }
    }

    /// Prepares all documents before the first byte is sent, so that an image that is not bundled is known at once.
    fn documents(&self, bundle: &Bundle, host: &str, namespace: Option<&str>) -> anyhow::Result<Documents> {
        let pull_host = self.pull_host.as_deref().unwrap_or(host);
        let manifests = self.manifests.as_deref();
        let rewritten = manifests.map(|file| rewrite_file(file, bundle, pull_host)).transpose()?;
        let object = self.bundle_name.as_deref().map(|name| {
            let name = if name.is_empty() { bundle_object::name_of(&self.path) } else { name.to_owned() };
            bundle_object::bundle_object(&name, namespace, bundle.images())
        });
        let object = object.transpose()?;
        Ok(Documents { object, rewritten, is_json: self.output.is_json() })
    }
}

/// Documents that a load prints in the end.
struct Documents {
    /// `Bundle` of the loaded images.
    object: Option<Value>,
    /// Rewritten manifests.
    rewritten: Option<String>,
    is_json: bool,
}

// === impl Documents ===

impl Documents {
    fn done(self, bundle: &Bundle, host: &str, destination: LoadDestination, report: LoadReport) -> Done {
        let Self { object, rewritten, is_json } = self;
        let images = bundle.images().iter().map(|image| LoadedImage::of(image, host)).collect();
        let (in_result, on_its_own) = if is_json { (object, None) } else { (None, object) };
        let loaded = Loaded::new(destination, images, bundle.blob_bytes(), report).with_bundle(in_result);
        let documents =
            on_its_own.map(|object| yaml::document(&object)).into_iter().chain(rewritten).collect();
        Done { loaded, documents }
    }
}

/// Reads the manifests of an archive, or prints all of its defects and fails.
pub(super) fn read_bundle(path: &Path) -> anyhow::Result<Bundle> {
    let faults = match Bundle::read(&Layout::open_archive(path)?) {
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
