//! Sources of content that replaces damaged one: registries, buckets and folders. Each is opened when damage is found, so
//! that a source which is away keeps no registry from starting.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::runtime::Handle;

use super::opened_bucket::{self, OpenedBucket};
use super::plan::FolderAccess;
use crate::bucket::BucketOptions;
use crate::cli::remote;
use crate::cli::storage::open_folder;
use crate::client::{Client, ClientError, TlsOptions};
use crate::oci::escape::Escaped;
use crate::oci::{Digest, ImageReference, Reference};
use crate::registry::config::HealFrom;
use crate::store::{Access, ContentKind, HealError, HealSource, Holder, StorageError, StorageSource};

/// Returns the sources of a configuration. Must be called within a runtime.
pub(super) fn sources(wanted: &[HealFrom]) -> anyhow::Result<Vec<Arc<dyn HealSource>>> {
    wanted.iter().map(source).collect()
}

fn source(wanted: &HealFrom) -> anyhow::Result<Arc<dyn HealSource>> {
    Ok(match wanted {
        HealFrom::Registry { host, path } => Arc::new(RegistrySource {
            client: remote::client(false, TlsOptions::default())?,
            runtime: Handle::current(),
            host: host.clone(),
            path: path.clone(),
        }),
        HealFrom::Bucket(url) => {
            let options: BucketOptions = url.parse().context("quinistry.scrub.healfrom")?;
            Arc::new(LateSource::new(Place::Bucket(Box::new(options))))
        }
        HealFrom::Folder(folder) => Arc::new(LateSource::new(Place::Folder(folder.clone()))),
    })
}

/// Registry as a source.
#[derive(Debug)]
struct RegistrySource {
    client: Client,
    runtime: Handle,
    host: String,
    /// Path in front of the names of repositories; empty if there is none.
    path: String,
}

impl RegistrySource {
    fn image(&self, holder: &Holder, digest: &Digest) -> Result<ImageReference, HealError> {
        let separator = if self.path.is_empty() { "" } else { "/" };
        let name = format!("{}{separator}{}", self.path, holder.repository).parse()?;
        Ok(ImageReference::new(&self.host, name, Reference::Digest(digest.clone()))?)
    }

    /// Reads content of one repository. Returns false if the registry does not have it there.
    fn fetch_from(
        &self,
        digest: &Digest,
        holder: &Holder,
        receive: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<bool, HealError> {
        let image = self.image(holder, digest)?;
        match holder.kind {
            ContentKind::Manifest => match self.runtime.block_on(self.client.manifest(&image)) {
                Ok(manifest) => receive(&manifest.bytes)?,
                Err(ClientError::Status { status, .. }) if status.as_u16() == 404 => return Ok(false),
                Err(error) => return Err(error.into()),
            },
            ContentKind::Blob => {
                let found = self.runtime.block_on(self.client.find_blob(&image, digest))?;
                let Some(blob) = found else { return Ok(false) };
                let mut stream = self.runtime.block_on(self.client.blob(&image, &blob))?;
                while let Some(bytes) = self.runtime.block_on(stream.next())? {
                    receive(&bytes)?;
                }
            }
        }
        Ok(true)
    }
}

impl HealSource for RegistrySource {
    fn name(&self) -> String {
        let separator = if self.path.is_empty() { "" } else { "/" };
        format!("{}{separator}{}", self.host, self.path)
    }

    fn fetch(
        &self,
        digest: &Digest,
        holders: &[Holder],
        receive: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<bool, HealError> {
        let mut refused = None;
        for holder in holders {
            let mut has_received = false;
            let fetched = self.fetch_from(digest, holder, &mut |bytes| {
                has_received = true;
                receive(bytes)
            });
            match fetched {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // Bytes of two repositories must not be mixed.
                Err(error) if has_received => return Err(error),
                // Another repository may be one that this registry can read.
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(false), Err)
    }
}

/// Bucket or folder in the layout of a registry.
#[derive(Debug)]
enum Place {
    Bucket(Box<BucketOptions>),
    Folder(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(options) => options.fmt(f),
            Self::Folder(folder) => Escaped(&folder.to_string_lossy()).fmt(f),
        }
    }
}

/// Storage as a source, which is opened when it is needed first.
#[derive(Debug)]
struct LateSource {
    place: Place,
    opened: Mutex<Option<Arc<dyn HealSource>>>,
}

impl LateSource {
    fn new(place: Place) -> Self {
        Self { place, opened: Mutex::default() }
    }

    fn open(&self) -> Result<Arc<dyn HealSource>, HealError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = &*opened {
            return Ok(source.clone());
        }
        let name = self.name();
        let source: Arc<dyn HealSource> = match &self.place {
            Place::Bucket(options) => {
                let OpenedBucket { bucket, .. } = opened_bucket::open(options, FolderAccess::Read)?;
                Arc::new(StorageSource::new(name, bucket))
            }
            Place::Folder(folder) => Arc::new(StorageSource::new(name, open_folder(folder, Access::Read)?)),
        };
        Ok(opened.insert(source).clone())
    }
}

impl HealSource for LateSource {
    fn name(&self) -> String {
        self.place.to_string()
    }

    fn fetch(
        &self,
        digest: &Digest,
        holders: &[Holder],
        receive: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<bool, HealError> {
        self.open()?.fetch(digest, holders, receive)
    }
}
