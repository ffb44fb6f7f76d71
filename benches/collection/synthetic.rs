//! A store of any size that is computed: its keys are generated while they are listed, and its manifests
//! while they are read. What the collector writes goes to a folder.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quinistry::oci::{Content, Digest, media_type};
use quinistry::store::{
    Abilities, Access, Created, Entry, Filesystem, Key, Meta, ObjectTag, Removed, ScanPage, Storage,
    StorageError, Uploads,
};

/// Manifests of a repository.
const MANIFESTS: usize = 1000;

/// Links of a repository to blobs. The last ones belong to no manifest.
const LINKS: usize = 30_000;

/// Blobs of a manifest.
const PARTS: usize = 29;

const BLOBS: &str = "docker/registry/v2/blobs";
const REPOSITORIES: &str = "docker/registry/v2/repositories";

/// Numbers of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Distinct blobs, manifests not counted.
    pub(crate) blobs: u64,
    /// Repositories of 1,000 manifests and 30,000 links each.
    pub(crate) repositories: usize,
}

/// Store that is computed.
#[derive(Debug)]
pub(crate) struct Synthetic {
    size: Size,
    /// SHA-256 of each manifest with its number, sorted.
    manifests: Vec<([u8; 32], u32)>,
    /// For each repository, its manifests in the order of their digests, as places in `manifests`.
    by_repository: Vec<u32>,
    modified: SystemTime,
    written: Filesystem,
}

/// Sorted keys that are computed from their places.
struct Run<'a> {
    count: usize,
    key: Box<dyn Fn(usize) -> String + 'a>,
}

// === impl Run ===

impl Run<'_> {
    /// Returns the first place whose key is not before `from`.
    fn place(&self, from: &str) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if (self.key)(middle).as_str() < from { low = middle + 1 } else { high = middle }
        }
        low
    }
}

// === impl Synthetic ===

impl Synthetic {
    pub(crate) fn new(size: Size, folder: &std::path::Path) -> Self {
        let mut store = Self {
            size,
            manifests: Vec::with_capacity(size.repositories * MANIFESTS),
            by_repository: vec![0; size.repositories * MANIFESTS],
            modified: SystemTime::now() - Duration::from_hours(1000),
            written: Filesystem::open(folder, Access::Write).unwrap(),
        };
        for number in 0..size.repositories * MANIFESTS {
            let digest = Digest::sha256(&store.manifest(number));
            store.manifests.push((bytes_of(digest.hex()), u32::try_from(number).unwrap()));
        }
        store.manifests.sort_unstable();
        let mut next = vec![0; size.repositories];
        for (place, (_, number)) in store.manifests.iter().enumerate() {
            let repository = *number as usize / MANIFESTS;
            store.by_repository[repository * MANIFESTS + next[repository]] = u32::try_from(place).unwrap();
            next[repository] += 1;
        }
        store
    }

    /// Returns the hex digits of a blob's digest, in the order of the blobs.
    fn blob(&self, number: u64) -> String {
        format!("{:016x}{:048x}", number * (u64::MAX / self.size.blobs), number)
    }

    /// Returns the blob of a repository's link.
    fn linked(&self, repository: usize, link: usize) -> u64 {
        (repository * LINKS + link) as u64 % self.size.blobs
    }

    /// Returns the links of a repository in the order of their keys.
    fn sorted_link(&self, repository: usize, place: usize) -> u64 {
        let first = self.linked(repository, 0);
        // Those past the last blob begin again with the first one.
        let over = (first + LINKS as u64).saturating_sub(self.size.blobs);
        let place = place as u64;
        if place < over { place } else { first + place - over }
    }

    fn manifest(&self, number: usize) -> Vec<u8> {
        let (repository, manifest) = (number / MANIFESTS, number % MANIFESTS);
        let part = |part: usize| {
            let blob = self.blob(self.linked(repository, manifest * PARTS + part));
            format!(r#"{{"mediaType":"{}","digest":"sha256:{blob}","size":1000}}"#, media_type::OCI_LAYER_TAR)
        };
        let layers: Vec<_> = (1..PARTS).map(part).collect();
        let config = part(0).replace(media_type::OCI_LAYER_TAR, media_type::OCI_CONFIG);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}],"annotations":{{"n":"{number}"}}}}"#,
            media_type::OCI_MANIFEST,
            layers.join(",")
        )
        .into_bytes()
    }

    fn digest_at(&self, place: usize) -> String {
        use std::fmt::Write as _;
        self.manifests[place].0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }

    fn number_of(&self, hex: &str) -> Option<usize> {
        let digest = bytes_of(hex);
        let place = self.manifests.binary_search_by_key(&digest, |(digest, _)| *digest).ok()?;
        Some(self.manifests[place].1 as usize)
    }

    /// Returns the runs of keys that may lie beneath a folder.
    fn runs(&self, folder: &str) -> Vec<Run<'_>> {
        if folder.starts_with(BLOBS) {
            let key = |hex: String| format!("{BLOBS}/sha256/{}/{hex}/data", &hex[..2]);
            return vec![
                Run {
                    count: usize::try_from(self.size.blobs).unwrap(),
                    key: Box::new(move |place| key(self.blob(place as u64))),
                },
                Run { count: self.manifests.len(), key: Box::new(move |place| key(self.digest_at(place))) },
            ];
        }
        let Some(repository) = repository_of(folder) else { return Vec::new() };
        let of = format!("{REPOSITORIES}/{}", name(repository));
        let (links, revisions, tags) = (of.clone(), of.clone(), of);
        vec![
            Run {
                count: LINKS,
                key: Box::new(move |place| {
                    format!("{links}/_layers/sha256/{}/link", self.blob(self.sorted_link(repository, place)))
                }),
            },
            Run {
                count: MANIFESTS,
                key: Box::new(move |place| {
                    let place = self.by_repository[repository * MANIFESTS + place] as usize;
                    format!("{revisions}/_manifests/revisions/sha256/{}/link", self.digest_at(place))
                }),
            },
            Run {
                count: MANIFESTS,
                key: Box::new(move |place| format!("{tags}/_manifests/tags/t{place:04}/current/link")),
            },
        ]
    }

    /// Returns the bytes under a computed key.
    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        if let Some(rest) = key.strip_prefix(BLOBS) {
            let hex = rest.strip_prefix("/sha256/")?.get(3..67)?;
            return Some(match self.number_of(hex) {
                Some(number) => self.manifest(number),
                None => vec![0; 1000],
            });
        }
        repository_of(key)?;
        let (folder, _) = key.strip_suffix("/link")?.rsplit_once('/')?;
        if folder.ends_with("sha256") {
            return Some(format!("sha256:{}", &key[folder.len() + 1..key.len() - 5]).into_bytes());
        }
        let tag: usize = folder.rsplit_once("/t")?.1.parse().ok()?;
        let place = self.by_repository[repository_of(key)? * MANIFESTS + tag] as usize;
        Some(format!("sha256:{}", self.digest_at(place)).into_bytes())
    }

    fn meta(&self, length: u64) -> Meta {
        Meta { length, modified: self.modified, tag: ObjectTag::of_generation(1) }
    }

    fn is_computed(key: &Key) -> bool {
        key.as_str().starts_with(BLOBS) || repository_of(key.as_str()).is_some()
    }
}

fn name(repository: usize) -> String {
    format!("r{repository:05}")
}

/// Returns the repository of a key.
fn repository_of(key: &str) -> Option<usize> {
    let name = key.strip_prefix(REPOSITORIES)?.strip_prefix("/r")?;
    name.split('/').next()?.parse().ok()
}

fn bytes_of(hex: &str) -> [u8; 32] {
    std::array::from_fn(|place| u8::from_str_radix(&hex[place * 2..place * 2 + 2], 16).unwrap())
}

impl Storage for Synthetic {
    fn abilities(&self) -> Abilities {
        Abilities { has_listing_versions: false, ..self.written.abilities() }
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        match self.bytes(key.as_str()) {
            Some(bytes) => Ok(Some((Content::new(Bytes::from(bytes)), ObjectTag::of_generation(1)))),
            None => self.written.open(key),
        }
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        match self.bytes(key.as_str()) {
            Some(bytes) => Ok(Some(self.meta(bytes.len() as u64))),
            None => self.written.head(key),
        }
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.written.write(stages)
    }

    fn write_lazily(&self, key: &Key, bytes: &[u8]) -> Result<(), StorageError> {
        self.written.write_lazily(key, bytes)
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.written.create(key, bytes)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        if Self::is_computed(key) { Ok(true) } else { self.written.remove(key) }
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.written.remove_if(key, tag)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        if Self::is_computed(folder) { Ok(true) } else { self.written.clear(folder) }
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        if !Self::is_computed(folder) {
            return self.written.scan(folder, after, limit);
        }
        let beneath = format!("{}/", folder.as_str());
        let from = after.map_or_else(|| beneath.clone(), |after| format!("{}\0", after.as_str()));
        let from = from.max(beneath.clone());
        let runs = self.runs(folder.as_str());
        let mut places: Vec<_> = runs.iter().map(|run| run.place(&from)).collect();
        let key_at = |run: usize, place: usize| (place < runs[run].count).then(|| (runs[run].key)(place));
        let mut heads: Vec<_> = (0..runs.len()).map(|run| key_at(run, places[run])).collect();
        let mut entries = Vec::with_capacity(limit);
        while entries.len() < limit {
            let heads_left = heads.iter().enumerate().filter_map(|(run, key)| Some((run, key.as_ref()?)));
            let Some((run, _)) = heads_left.min_by(|(_, one), (_, other)| one.cmp(other)) else { break };
            let key = heads[run].take().unwrap();
            if !key.starts_with(&beneath) {
                continue;
            }
            places[run] += 1;
            heads[run] = key_at(run, places[run]);
            entries.push((Key::of_path(key).unwrap(), self.meta(71)));
        }
        let next = (entries.len() == limit).then(|| entries.last().unwrap().0.clone());
        Ok(ScanPage { entries, next })
    }

    fn list(&self, folder: &Key) -> Result<Option<Vec<String>>, StorageError> {
        let text = folder.as_str();
        if text == REPOSITORIES {
            return Ok(Some((0..self.size.repositories).map(name).collect()));
        }
        if text.strip_prefix(REPOSITORIES).is_some_and(|rest| rest.matches('/').count() == 1) {
            return Ok(Some(vec!["_layers".into(), "_manifests".into()]));
        }
        if !Self::is_computed(folder) {
            return self.written.list(folder);
        }
        // Short folders alone: the collector scans long ones.
        let beneath = format!("{text}/");
        let mut names = std::collections::BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.scan(folder, after.as_ref(), 1000)?;
            let rest = page.entries.iter().filter_map(|(key, _)| key.as_str().strip_prefix(&beneath));
            names.extend(rest.filter_map(|rest| rest.split('/').next()).map(str::to_owned));
            after = page.next;
            if after.is_none() {
                return Ok((!names.is_empty()).then(|| names.into_iter().collect()));
            }
        }
    }

    fn uploads(&self) -> &dyn Uploads {
        self.written.uploads()
    }
}
