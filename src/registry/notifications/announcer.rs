//! Announcement of what a request has done, and of deletions by the registry itself.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use quinistry_http::Peer;
use quinistry_http::client_address::{ClientAddress, TrustedProxies};
use quinistry_oci::{Digest, RepositoryName, Tag};
use quinistry_store::{DeletedSubject, Deletion};

use super::event::{Action, BLOB_MEDIA_TYPE, RequestRecord, Target};
use super::references::{ReferenceDescriptor, references};
use super::{Notifier, new_id};
use crate::auth::caller::Caller;
use crate::auth::challenge::is_tls;
use crate::auth::realm::realm;
use crate::{PathPrefix, Settings, client_address};

/// Longest text of a client's header in an event, in bytes: some clients send a mebibyte.
const MAX_HEADER_BYTES: usize = 512;

/// Beginning of the actor in events of deletions by the registry itself. No user has a colon in the name.
const REGISTRY_ACTOR: &str = "quinistry:";

/// Parts that a manifest names.
pub(crate) type References = Arc<[ReferenceDescriptor]>;

/// Announcer of what one request has done. Clones share it, so that the call which changes the store
/// announces the change, also if the client has left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announcer(Option<Arc<RequestFacts>>);

#[derive(Debug)]
struct RequestFacts {
    notifier: Arc<Notifier>,
    request: Arc<RequestRecord>,
    actor: Option<Arc<str>>,
    /// URL in front of `/v2/`; `None` if the request does not tell the host of the registry.
    base_url: Option<String>,
}

/// Manifest that a request has pushed or pulled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnnouncedManifest<'a> {
    pub(crate) repository: &'a RepositoryName,
    pub(crate) digest: &'a Digest,
    pub(crate) media_type: &'a str,
    /// Length in bytes.
    pub(crate) size: u64,
}

// === impl Announcer ===

impl Announcer {
    /// Announcer of a request that is not announced.
    pub(crate) const SILENT: Self = Self(None);

    /// Makes the announcer of a request with this identifier, if it has one.
    pub(crate) fn of(
        settings: &Settings,
        request: &Parts,
        id: Option<&str>,
        caller: &Caller,
        prefix: &PathPrefix,
    ) -> Self {
        let Some(notifier) = &settings.notifier else { return Self::SILENT };
        let is_read = matches!(request.method, http::Method::GET | http::Method::HEAD);
        if is_read && !notifier.wants(Action::Pull) {
            return Self::SILENT;
        }
        let none = TrustedProxies::default();
        let trusted = settings.observer.as_ref().map_or(&none, |observer| &observer.trusted_proxies);
        let public_url = notifier.settings.public_url.as_ref();
        let record = RequestRecord {
            id: id.map_or_else(|| new_id(SystemTime::now(), 0).to_string(), str::to_owned),
            address: address(request.extensions.get::<Peer>().copied(), &request.headers, trusted),
            host: header_text(&request.headers, &HOST),
            method: request.method.to_string(),
            user_agent: header_text(&request.headers, &USER_AGENT),
        };
        Self(Some(Arc::new(RequestFacts {
            notifier: notifier.clone(),
            request: Arc::new(record),
            actor: caller.identity().and_then(|identity| identity.name.clone()),
            base_url: realm(public_url, &request.headers, is_tls(request), prefix, "").ok(),
        })))
    }

    /// Returns true if events name the parts of manifests.
    pub(crate) fn wants_references(&self) -> bool {
        self.0.as_ref().is_some_and(|facts| facts.notifier.settings.includes_references)
    }

    /// Reads the parts that a manifest names. Takes tens of milliseconds for the longest manifests.
    pub(crate) fn read_references(manifest: &[u8]) -> References {
        references(manifest).into()
    }

    /// Announces a blob that was pushed.
    pub(crate) fn pushed_blob(&self, repository: &RepositoryName, digest: &Digest, size: u64) {
        if let Some(facts) = &self.0 {
            facts.announce(Action::Push, vec![facts.blob(repository, digest, size)]);
        }
    }

    /// Announces a blob that was pulled.
    pub(crate) fn pulled_blob(&self, repository: &RepositoryName, digest: &Digest, size: u64) {
        if let Some(facts) = &self.0 {
            facts.announce(Action::Pull, vec![facts.blob(repository, digest, size)]);
        }
    }

    /// Announces a blob that was mounted, from a repository that the client has named, if it has.
    pub(crate) fn mounted_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        from: Option<&RepositoryName>,
    ) {
        if let Some(facts) = &self.0 {
            let blob = facts.blob(repository, digest, size);
            facts.announce(Action::Mount, vec![Target { from_repository: from.cloned(), ..blob }]);
        }
    }

    /// Announces a manifest that was pushed: one event for each of its tags, or one without a tag. Reads its
    /// parts, if events name them; call it away from the event loop.
    pub(crate) fn pushed_manifest(&self, manifest: AnnouncedManifest<'_>, bytes: &[u8], tags: &[Tag]) {
        let Some(facts) = &self.0 else { return };
        let references =
            if self.wants_references() { Self::read_references(bytes) } else { References::default() };
        let tags = tags.iter().map(Some).chain(tags.is_empty().then_some(None));
        let targets = tags.map(|tag| facts.manifest(manifest, tag, references.clone()));
        facts.announce(Action::Push, targets.collect());
    }

    /// Announces a manifest that was pulled. The parts are needed if
    /// [`wants_references`](Self::wants_references).
    pub(crate) fn pulled_manifest(
        &self,
        manifest: AnnouncedManifest<'_>,
        references: References,
        tag: Option<&Tag>,
    ) {
        let Some(facts) = &self.0 else { return };
        facts.announce(Action::Pull, vec![facts.manifest(manifest, tag, references)]);
    }

    /// Announces a manifest or a blob that was deleted, and then the tags that have gone with it.
    pub(crate) fn deleted_content(&self, repository: &RepositoryName, digest: &Digest, tags: &[Tag]) {
        let Some(facts) = &self.0 else { return };
        let mut targets = vec![Target::deleted(repository.clone(), Some(digest.clone()), None)];
        targets.extend(tags.iter().map(|tag| Target::deleted(repository.clone(), None, Some(tag.clone()))));
        facts.announce(Action::Delete, targets);
    }

    /// Announces a tag that was deleted.
    pub(crate) fn deleted_tag(&self, repository: &RepositoryName, tag: &Tag) {
        if let Some(facts) = &self.0 {
            let target = Target::deleted(repository.clone(), None, Some(tag.clone()));
            facts.announce(Action::Delete, vec![target]);
        }
    }
}

// === impl RequestFacts ===

impl RequestFacts {
    fn announce(&self, action: Action, targets: Vec<Target>) {
        if self.notifier.wants(action) {
            self.notifier.notify((action, targets), Some(&self.request), self.actor.as_ref());
        }
    }

    fn blob(&self, repository: &RepositoryName, digest: &Digest, size: u64) -> Target {
        Target {
            media_type: Cow::Borrowed(BLOB_MEDIA_TYPE),
            digest: Some(digest.clone()),
            size,
            repository: repository.clone(),
            from_repository: None,
            url: self.url(repository, "blobs", digest),
            tag: None,
            references: Arc::default(),
        }
    }

    fn manifest(&self, manifest: AnnouncedManifest<'_>, tag: Option<&Tag>, references: References) -> Target {
        let AnnouncedManifest { repository, digest, media_type, size } = manifest;
        Target {
            media_type: Cow::Owned(media_type.to_owned()),
            digest: Some(digest.clone()),
            size,
            repository: repository.clone(),
            from_repository: None,
            url: self.url(repository, "manifests", digest),
            tag: tag.cloned(),
            references,
        }
    }

    fn url(&self, repository: &RepositoryName, kind: &str, digest: &Digest) -> Option<String> {
        let base = self.base_url.as_ref()?;
        Some(format!("{base}/v2/{repository}/{kind}/{digest}"))
    }
}

impl Notifier {
    /// Queues the event of a deletion by the registry itself. Deleted bytes make none: they are no longer
    /// part of any repository.
    pub(crate) fn deleted_by_registry(&self, deletion: &Deletion, time: SystemTime) {
        let target = match &deletion.subject {
            DeletedSubject::Tag { repository, tag, .. } => {
                Target::deleted(repository.clone(), None, Some(tag.clone()))
            }
            DeletedSubject::Manifest { repository, digest } | DeletedSubject::Blob { repository, digest } => {
                Target::deleted(repository.clone(), Some(digest.clone()), None)
            }
            DeletedSubject::Bytes { .. } => return,
        };
        let actor = format!("{REGISTRY_ACTOR}{}", deletion.actor).into();
        self.notify_at(time, (Action::Delete, vec![target]), None, Some(&actor));
    }
}

/// Returns the address of the client: with its port if it is the peer itself, as distribution has it.
fn address(peer: Option<Peer>, headers: &HeaderMap, trusted: &TrustedProxies) -> String {
    match (client_address::find(peer, headers, trusted), peer) {
        (Some(ClientAddress::Ip(client)), Some(Peer::Tcp(peer))) if client == peer.ip().to_canonical() => {
            std::net::SocketAddr::new(client, peer.port()).to_string()
        }
        (Some(client), _) => client.to_string(),
        (None, _) => String::new(),
    }
}

/// Returns the text of a header, cut to a length that fits into an event.
fn header_text(headers: &HeaderMap, name: &HeaderName) -> String {
    let Some(value) = headers.get(name) else { return String::new() };
    let bytes = value.as_bytes();
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_HEADER_BYTES)]).into_owned();
    if bytes.len() > MAX_HEADER_BYTES {
        // A character that was cut has become a replacement character.
        text.truncate(text.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
    }
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn row_152_a_long_header_is_cut_between_characters() {
        let text = |bytes: &[u8]| {
            let headers = [(USER_AGENT, HeaderValue::from_bytes(bytes).unwrap())].into_iter().collect();
            header_text(&headers, &USER_AGENT)
        };
        assert_eq!(text(b"docker/27"), "docker/27");
        assert_eq!(text(&vec![b'x'; 1 << 20]).len(), MAX_HEADER_BYTES);
        let long = "\u{e4}".repeat(1 << 10);
        assert_eq!(text(format!("x{long}").as_bytes()).len(), MAX_HEADER_BYTES - 1);
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(header_text(&HeaderMap::new(), &USER_AGENT), "");
    }

    #[test]
    fn the_address_has_a_port_if_the_client_is_the_peer() {
        let headers: HeaderMap =
            [(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static("198.51.100.7"))]
                .into_iter()
                .collect();
        let of = |peer: &str, trusted: &[&str]| {
            let peer = Some(Peer::Tcp(peer.parse().unwrap()));
            address(peer, &headers, &TrustedProxies::parse(trusted).unwrap())
        };
        assert_eq!(of("192.0.2.1:4711", &[]), "192.0.2.1:4711");
        assert_eq!(of("192.0.2.1:4711", &["192.0.2.0/24"]), "198.51.100.7");
        assert_eq!(of("[::ffff:192.0.2.1]:4711", &[]), "192.0.2.1:4711");
        assert_eq!(address(Some(Peer::Unix(None)), &headers, &TrustedProxies::default()), "unix");
        assert_eq!(address(None, &headers, &TrustedProxies::default()), "");
    }
}
