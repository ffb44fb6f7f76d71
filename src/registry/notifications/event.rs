//! Events: what was done with the content of the registry, and by whom. Pure.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName, Tag};
use uuid::{Builder, Uuid};

use super::references::ReferenceDescriptor;
use super::weight::{ALLOCATION_BYTES, text_weight};

/// Media type of each blob in an event, as distribution has it: a registry does not know the type of a blob.
pub(crate) const BLOB_MEDIA_TYPE: &str = "application/octet-stream";

/// Action of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client has pushed a blob or a manifest.
    Push,
    /// A client has read a blob or a manifest, or has asked for it by HEAD.
    Pull,
    /// A client has mounted a blob from another repository.
    Mount,
    /// A client or the registry itself has deleted a blob, a manifest or a tag.
    Delete,
}

/// Event, as endpoints get it.
#[derive(Debug)]
pub(crate) struct Event {
    /// Identifier, by which a receiver recognises an event that it has had already.
    pub(crate) id: Uuid,
    pub(crate) time: SystemTime,
    pub(crate) action: Action,
    pub(crate) target: Target,
    /// Request that the event comes from; `None` for a deletion by the registry itself.
    pub(crate) request: Option<Arc<RequestRecord>>,
    /// User, or part of the registry; `None` for a client without a name.
    pub(crate) actor: Option<Arc<str>>,
}

/// Content that an event is about.
#[derive(Debug)]
pub(crate) struct Target {
    /// Media type; empty in deletions.
    pub(crate) media_type: Cow<'static, str>,
    /// Digest; `None` in deletions of a tag.
    pub(crate) digest: Option<Digest>,
    /// Length in bytes; 0 in deletions.
    pub(crate) size: u64,
    pub(crate) repository: RepositoryName,
    /// Repository that a blob was mounted from.
    pub(crate) from_repository: Option<RepositoryName>,
    /// URL of the content; `None` in deletions, and where the request does not tell the host of the registry.
    pub(crate) url: Option<String>,
    pub(crate) tag: Option<Tag>,
    /// Parts of a manifest, if the configuration asks for them.
    pub(crate) references: Arc<[ReferenceDescriptor]>,
}

/// Request that an event comes from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestRecord {
    pub(crate) id: String,
    /// Address of the client, with its port where the registry knows that.
    pub(crate) address: String,
    /// Field `Host` as the client sent it.
    pub(crate) host: String,
    pub(crate) method: String,
    pub(crate) user_agent: String,
}

// === impl Action ===

impl Action {
    /// All actions.
    pub const ALL: [Self; 4] = [Self::Push, Self::Pull, Self::Mount, Self::Delete];

    /// Returns the name in events and configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

// === impl Event ===

impl Event {
    /// Returns the memory that the event takes, in bytes. What several events share counts for each of them.
    pub(crate) fn weight(&self) -> usize {
        /// Counts of the pointers that share an allocation.
        const SHARED_BYTES: usize = 2 * size_of::<usize>() + ALLOCATION_BYTES;
        let Target { media_type, digest, size: _, repository, from_repository, url, tag, references } =
            &self.target;
        let request = self.request.as_ref().map_or(0, |request| {
            let RequestRecord { id, address, host, method, user_agent } = &**request;
            let texts = [id, address, host, method, user_agent].map(|text| text_weight(text));
            size_of::<RequestRecord>() + SHARED_BYTES + texts.iter().sum::<usize>()
        });
        let optional = [
            digest.as_ref().map(Digest::as_str),
            from_repository.as_ref().map(RepositoryName::as_str),
            url.as_deref(),
            tag.as_ref().map(Tag::as_str),
            self.actor.as_deref(),
        ];
        size_of::<Self>()
            + SHARED_BYTES
            + request
            + text_weight(media_type)
            + text_weight(repository.as_str())
            + optional.into_iter().flatten().map(text_weight).sum::<usize>()
            + references.iter().map(ReferenceDescriptor::weight).sum::<usize>()
    }
}

// === impl Target ===

impl Target {
    /// Returns the target of a deletion, which names a digest, or else a tag.
    pub(crate) fn deleted(repository: RepositoryName, digest: Option<Digest>, tag: Option<Tag>) -> Self {
        Self {
            media_type: Cow::Borrowed(""),
            digest,
            size: 0,
            repository,
            from_repository: None,
            url: None,
            tag,
            references: Arc::default(),
        }
    }
}

/// Returns the identifier of an event: a UUID of version 7 (RFC 9562, 5.7). Twelve bits behind the
/// milliseconds are their fraction (6.2, method 3), and fourteen behind these are the place among the events
/// of one request (method 1), so that the identifiers of a registry sort as the events happened.
pub(crate) fn event_id(time: SystemTime, place: usize, random: [u8; 6]) -> Uuid {
    const NANOS_PER_MILLI: u64 = 1_000_000;
    const MAX_PLACE: u16 = (1 << 14) - 1;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let fraction = u64::from(since.subsec_nanos()) % NANOS_PER_MILLI * 4096 / NANOS_PER_MILLI;
    let fraction = u16::try_from(fraction).expect("a fraction of 4096 fits into 16 bits");
    let place = u16::try_from(place).map_or(MAX_PLACE, |place| place.min(MAX_PLACE));
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&fraction.to_be_bytes());
    bytes[2..4].copy_from_slice(&place.to_be_bytes());
    bytes[4..].copy_from_slice(&random);
    Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(nanos: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_nanos(nanos)
    }

    #[test]
    fn identifiers_are_uuids_of_version_7_that_sort_by_time() {
        let moments = [(0, 0), (0, 1), (0, 300), (250, 0), (999_999, 0), (1_000_000, 0), (5_000_000_000, 0)];
        let ids: Vec<String> = moments
            .into_iter()
            // The random part of an earlier one is the greater one.
            .zip((0..=255).rev())
            .map(|((nanos, place), random)| event_id(at(nanos), place, [random; 6]).to_string())
            .collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert_eq!(ids[0], "018bcfe5-6800-7000-8000-ffffffffffff");
        for id in &ids {
            assert!(id.as_bytes()[14] == b'7' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
        assert_ne!(event_id(at(0), 0, [1; 6]), event_id(at(0), 0, [2; 6]));
        assert_eq!(event_id(at(0), 1 << 20, [0; 6]).to_string(), "018bcfe5-6800-7000-bfff-000000000000");
    }
}
