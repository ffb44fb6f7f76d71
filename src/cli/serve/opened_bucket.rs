//! Opening a bucket: its client, the probe of what the store can do, and the storage.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use super::plan::FolderAccess;
use crate::bucket::{
    self, AzureOptions, Bucket, BucketOptions, BucketSettings, BucketUploads, HttpClients, KeptProbe,
    ListingQuery, Objects, ProbeDepth, ProbeReport, StoreAbilities, StoreOptions, TransferMemory,
    UploadOptions,
};
use crate::client::{TlsOptions, client_builder};
use crate::oci::escape::Escaped;
use crate::registry::metrics::Driver;

/// Version of the program, for the store's log.
const USER_AGENT: &str = concat!("quinistry/", env!("CARGO_PKG_VERSION"));

/// Bucket that is ready to be used, and whether it may be written.
#[derive(Debug)]
pub(in crate::cli) struct OpenedBucket {
    pub(in crate::cli) bucket: Bucket,
    pub(super) is_writable: bool,
    /// Result of a probe that was just made, to keep for the next start.
    pub(super) probe: Option<KeptProbe>,
}

/// Opens a bucket. Blocks; must be called within a runtime of several threads.
pub(in crate::cli) fn open(options: &BucketOptions, access: FolderAccess) -> anyhow::Result<OpenedBucket> {
    tokio::task::block_in_place(|| {
        open_within(options, access, &Handle::current())
            .with_context(|| format!("failed to open storage {options}"))
    })
}

fn open_within(
    options: &BucketOptions,
    access: FolderAccess,
    runtime: &Handle,
) -> anyhow::Result<OpenedBucket> {
    let clients = http_clients(options)?;
    let client = clients.store.clone();
    let objects = bucket::connect(options, clients.clone())?;
    runtime.block_on(check_root(&objects, options, &clients))?;
    // A description that cannot be read is no reason to stop: the probe, or the next read, says what is
    // wrong.
    let kept = runtime.block_on(KeptProbe::read(&objects, options)).ok().flatten();
    let is_writable = access == FolderAccess::Write;
    let mut probe = None;
    let abilities = if is_writable {
        let abilities = if let Some(kept) = kept.filter(|kept| is_enough(kept, &objects, options)) {
            log_kept(&kept, options);
            kept.abilities
        } else {
            let probing = bucket::probe(&objects, Some(&client), ProbeDepth::Start, options.is_exclusive);
            let report = runtime.block_on(probing)?;
            log_findings(&report, options);
            probe = Some(KeptProbe::new(report.abilities, &objects, options));
            report.abilities
        };
        warn_of_settings(runtime.block_on(objects.settings()).unwrap_or_default(), options);
        abilities
    } else {
        let read = runtime.block_on(has_content(&objects));
        read.context("the bucket cannot be read; check its address, the credentials and their rights")?;
        // Nothing is written where the registry is read-only: a whole probe would need the right to write.
        if let Some(kept) = kept {
            log_kept(&kept, options);
            kept.abilities
        } else {
            let report = runtime.block_on(bucket::probe_reading(&objects, &client));
            log_findings(&report, options);
            report.abilities
        }
    };
    let objects: Arc<dyn Objects> = Arc::new(objects.with_abilities(abilities));
    let uploads = UploadOptions {
        transfers: options.transfers,
        parts_may_differ: abilities.takes_unequal_parts || options.store.is_known_to_take_unequal_parts(),
        copies_parts: abilities.copies_parts,
        is_exclusive: options.is_exclusive,
    };
    let memory = TransferMemory::new(options.transfers.memory_bytes);
    let uploads = BucketUploads::new(objects.clone(), runtime.clone(), memory.clone(), uploads);
    let bucket = Bucket::new(objects, runtime.clone(), abilities, memory, uploads);
    Ok(OpenedBucket { bucket, is_writable, probe })
}

/// Creates the HTTP clients of a bucket.
fn http_clients(options: &BucketOptions) -> anyhow::Result<HttpClients> {
    let client = |skip_verify| {
        let mut builder = client_builder(&TlsOptions { skip_verify, ..TlsOptions::default() })?;
        if let Some(more) = &options.user_agent {
            builder = builder.user_agent(format!("{USER_AGENT} {more}"));
        }
        anyhow::Ok(bucket::http_client(builder)?)
    };
    let credentials = client(false)?;
    let store = if options.verifies_certificate { credentials.clone() } else { client(true)? };
    Ok(HttpClients { store, credentials })
}

/// Refuses a container of Azure in an account with folders, and one whose content lies under keys with a
/// leading slash, which the options do not expect: the registry would begin an empty one beside it.
async fn check_root(
    objects: &dyn Objects,
    options: &BucketOptions,
    clients: &HttpClients,
) -> anyhow::Result<()> {
    let StoreOptions::Azure(azure) = &options.store else { return Ok(()) };
    anyhow::ensure!(
        objects.settings().await?.has_folders != Some(true),
        "the account has a hierarchical namespace (Data Lake Storage), in which folders appear among the objects; use an \
         account without one"
    );
    if azure.has_leading_slash || has_content(objects).await? {
        return Ok(());
    }
    let with_slash = AzureOptions { has_leading_slash: true, ..azure.clone() };
    let with_slash = BucketOptions { store: StoreOptions::Azure(with_slash), ..options.clone() };
    anyhow::ensure!(
        !has_content(&bucket::connect(&with_slash, clients.clone())?).await?,
        "its keys begin with a slash, as registry:2 wrote them; set quinistry.azure.legacyroot: true"
    );
    Ok(())
}

/// Returns true if a bucket has repositories.
async fn has_content(objects: &dyn Objects) -> anyhow::Result<bool> {
    let query = ListingQuery { prefix: "docker/registry/v2/repositories/", after: None, limit: 1 };
    Ok(!objects.list(query).await?.entries.is_empty())
}

/// Returns true if a writer may rely on an earlier probe. One of a store that cannot create objects is made
/// again where there are several writers, since it refuses the store and says why.
fn is_enough(kept: &KeptProbe, objects: &dyn Objects, options: &BucketOptions) -> bool {
    kept.is_fresh(objects) && (kept.abilities.creates || options.is_exclusive)
}

/// Logs what an earlier probe found.
fn log_kept(kept: &KeptProbe, options: &BucketOptions) {
    let able = able(&kept.abilities);
    tracing::info!(storage = %options, probed = %Escaped(&kept.probed), %able, "store was probed before");
}

/// Returns the abilities that a store has, by the names that the metrics use.
fn able(abilities: &StoreAbilities) -> String {
    let able = abilities.by_name().into_iter().filter_map(|(name, is_able)| is_able.then_some(name));
    able.collect::<Vec<_>>().join(", ")
}

/// Logs what the probe found.
fn log_findings(report: &ProbeReport, options: &BucketOptions) {
    tracing::info!(storage = %options, able = %able(&report.abilities), "store probed");
    for found in report.findings.iter().filter(|found| found.outcome == Some(false)) {
        tracing::warn!(storage = %options, lacks = %found.name, "store lacks an ability: {}", found.without);
    }
}

/// Warns about settings of the bucket that cost its owner something, or open it.
fn warn_of_settings(settings: BucketSettings, options: &BucketOptions) {
    for warning in settings.warnings() {
        tracing::warn!(storage = %options, "{warning}");
    }
}

/// Returns the name of a store in the metrics.
pub(super) const fn driver(options: &BucketOptions) -> Driver {
    match options.store {
        StoreOptions::S3(_) => Driver::S3,
        StoreOptions::Gcs(_) => Driver::Gcs,
        StoreOptions::Azure(_) => Driver::Azure,
    }
}
