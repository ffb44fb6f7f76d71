//! Settings of a registry that can change while it runs, and the cell that holds the current ones.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::upload_state::UploadSecret;
use crate::auth::AccessControl;
use crate::collection::CollectionSettings;
use crate::named_images::NamedImages;
use crate::notifications::Notifier;
use crate::observer::Observer;
use crate::peers::Peers;
use crate::retention::Retention;
use crate::upstreams::Upstreams;

pub use crate::api::response::extra_headers::{ExtraHeaders, ExtraHeadersError};
pub use crate::api::trail::Audit;
pub use crate::api::validation::{RepositoryClass, RequiredEntries, RequiredPlatform, UrlRules, Validation};
pub use crate::quota_policies::{QuotaPolicies, QuotaPolicy};
pub use crate::records::{PullRecording, PullingClient};
pub use crate::scrub::Scrub;
pub use crate::tag_policies::{TagPolicies, TagPolicy};
pub use crate::upload_expiry::UploadExpiry;

/// Settings of a registry, which [`State::replace_settings`](crate::State::replace_settings) exchanges while it
/// runs. The default permits everything.
#[derive(Clone, Debug)]
pub struct Settings {
    /// True if clients can neither push nor delete.
    pub read_only: bool,
    /// True if clients can delete tags, manifests and blobs.
    pub delete: bool,
    /// Longest time that a request's body may progress below `body_rate` before it is cut off.
    pub body: Duration,
    /// Bytes per second that a client must send on average.
    pub body_rate: u64,
    /// Headers that every response has beside its own.
    pub headers: ExtraHeaders,
    /// Lengths of the pages of lists.
    pub pages: PageLimits,
    /// Rules for the content of pushed manifests.
    pub validation: Validation,
    /// Classes of images that may be pushed; empty if all may.
    pub classes: Vec<RepositoryClass>,
    /// True if `GET /` is answered 200, as load balancers and the probes of charts ask; else it is 404.
    pub answers_root: bool,
    /// Expiry of upload sessions, which [`State::expire_uploads`](crate::State::expire_uploads) carries out.
    pub upload_expiry: UploadExpiry,
    /// Scrub of the stored content, which [`State::scrub`](crate::State::scrub) carries out.
    pub scrub: Scrub,
    /// Collection of garbage, which [`State::collect_garbage`](crate::State::collect_garbage) carries out; `None` if
    /// nothing is collected while the registry serves.
    pub collection: Option<CollectionSettings>,
    /// Redirects of pulls to the storage; `None` if this registry sends all content itself.
    pub redirects: Option<Redirects>,
    /// Secret by which replicas on one storage recognise upload sessions; `None` if the storage holds it.
    pub upload_secret: Option<UploadSecret>,
    /// Users and rules; `None` if each client may do what the other settings permit.
    pub access: Option<Arc<AccessControl>>,
    /// Immutable and protected tags, if there are any.
    pub tags: Option<Arc<TagPolicies>>,
    /// Quotas of repositories, if there are any.
    pub quotas: Option<Arc<QuotaPolicies>>,
    /// Recording of pulls, if rules of retention need it.
    pub pulls: Option<PullRecording>,
    /// Retention of tags before each collection, if there is one.
    pub retention: Option<Arc<Retention>>,
    /// Registries that this one asks for what it does not have, if there are any.
    pub upstreams: Option<Arc<Upstreams>>,
    /// Registries of the same cluster that this one asks by digest for what it does not have, if there are any.
    pub peers: Option<Arc<Peers>>,
    /// Images that the storage holds by a file of names, if there are any; the task is
    /// [`State::keep_named`](crate::State::keep_named).
    pub named: Option<Arc<NamedImages>>,
    /// Form of the names of repositories.
    pub naming: RepositoryNaming,
    /// Log of writes, refusals and failed logins, if there is one.
    pub audit: Option<Audit>,
    /// Endpoints that get events of pushes, pulls and deletions, if there are any.
    pub notifier: Option<Arc<Notifier>>,
    /// Observer that measures, logs and gates the requests, if there is one.
    pub observer: Option<Arc<Observer>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_only: false,
            delete: true,
            body: Duration::from_secs(30),
            body_rate: 1024,
            headers: ExtraHeaders::default(),
            pages: PageLimits::default(),
            validation: Validation::default(),
            classes: Vec::new(),
            answers_root: false,
            upload_expiry: UploadExpiry::default(),
            scrub: Scrub::default(),
            collection: None,
            redirects: Some(Redirects::default()),
            upload_secret: None,
            access: None,
            tags: None,
            quotas: None,
            pulls: None,
            retention: None,
            upstreams: None,
            peers: None,
            named: None,
            naming: RepositoryNaming::default(),
            audit: None,
            notifier: None,
            observer: None,
        }
    }
}

/// Form of the names of repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepositoryNaming {
    /// Names as clients push them. Without upstreams and peers, `?ns=` is ignored.
    #[default]
    AsPushed,
    /// Names that begin with the host of the images' registry, as those of a bundle: a client that names the host by
    /// `?ns=` means the repository below it.
    BelowHosts,
}

/// Redirects of clients that pull a blob to a storage that has URLs, such as a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirects {
    /// Least time for which a URL is valid. A client may begin to read at its end, and then goes on.
    pub lifetime: Duration,
    /// Least length of a blob that is not sent by this registry, in bytes.
    pub min_bytes: u64,
}

impl Default for Redirects {
    fn default() -> Self {
        Self { lifetime: Duration::from_mins(20), min_bytes: 64 * 1024 }
    }
}

/// Greatest numbers of items of a page, which are also the numbers if the client requests none. A client that
/// requests more gets a page of this length and a link to the next one. A page is in memory as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Most repositories of a page of the catalog.
    pub repositories: usize,
    /// Most tags of a page.
    pub tags: usize,
}

impl PageLimits {
    /// Most referrers of a page.
    pub(crate) const REFERRERS: usize = 1000;
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { repositories: 1000, tags: 1000 }
    }
}

/// Cell with the current settings.
#[derive(Debug)]
pub(crate) struct SettingsCell(watch::Sender<Arc<Settings>>);

impl SettingsCell {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(watch::Sender::new(Arc::new(settings)))
    }

    /// Returns the current settings. A request takes them once, so that it ends with those it began with.
    pub(crate) fn current(&self) -> Arc<Settings> {
        self.0.borrow().clone()
    }

    pub(crate) fn replace(&self, settings: Settings) {
        self.0.send_replace(Arc::new(settings));
    }

    /// Returns a receiver that notices replaced settings.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Settings>> {
        self.0.subscribe()
    }
}

impl Clone for SettingsCell {
    /// Makes a cell of its own with the current settings.
    fn clone(&self) -> Self {
        Self(watch::Sender::new(self.current()))
    }
}
