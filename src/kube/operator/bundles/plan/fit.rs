//! Names and histories of all bundles of one registry, as far as they fit into one `ConfigMap`. Older bundles
//! come first; the names of all bundles come before the history of any. Pure.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::{BundlePlan, Candidate, Registry, Verdict, list, previous};
use crate::crd::BundleReason;
use crate::operator::bundles::documents::{
    BundleHistory, EMPTY_BYTES, HistoryDocument, MAX_DOCUMENT_BYTES, NamedDigest, NamesDocument, former_bytes,
};
use crate::operator::bundles::observed::ObservedBundle;
use crate::operator::bundles::parse::{Image, ParsedBundle, ParsedName};
use crate::operator::naming::names_map_name;

/// Documents of one registry, and the judgements about its bundles.
pub(super) struct Fitted {
    pub names: NamesDocument,
    pub history: HistoryDocument,
    /// Images that names stand for, sorted.
    pub images: Vec<Image>,
    pub bundles: Vec<BundlePlan>,
    /// UIDs of bundles with images that are not listed.
    pub unlisted: BTreeSet<String>,
}

/// Documents of one registry as they are now.
#[derive(Debug, Default)]
pub(super) struct Former {
    pub history: HistoryDocument,
    pub names: Vec<ParsedName>,
}

/// Names that bundles hold: the digest, and the holder.
type Holders = BTreeMap<(RepositoryName, Tag), (Digest, String)>;

/// Names and images that a bundle takes room for.
#[derive(Clone, Debug, Default)]
struct Claim {
    names: Vec<ParsedName>,
    /// Images in the bundle's history as the current ones.
    current: Vec<Image>,
}

/// Room in the documents, and what takes it. A name that several bundles have takes room once.
struct Room {
    used: usize,
    /// Number of claims with each name, and the bytes of the name.
    names: BTreeMap<(RepositoryName, Tag, Digest), (usize, usize)>,
}

/// A bundle with its place in the documents.
struct Placed {
    plan: BundlePlan,
    /// History with its current images; `None` for a new bundle that does not fit.
    entry: Option<BundleHistory>,
}

/// Fits the bundles of a registry, which are sorted by age. Of `unserved` bundles the history is kept as it
/// is, with all of its images: their specification cannot be read, or no registry serves them yet.
///
/// Names that were served before have their room for certain. A new or changed bundle gets what is left, or
/// what its own former names leave; if that is not enough, a changed bundle keeps its former names.
pub(super) fn fit(
    registry: &Registry,
    candidates: &[Candidate<'_>],
    before: &Former,
    unserved: &[&ObservedBundle],
) -> Fitted {
    let mut holders = Holders::new();
    let mut names = NamesDocument::default();
    let mut images: BTreeSet<Image> = BTreeSet::new();
    let claims: Vec<Option<Claim>> = candidates.iter().map(|candidate| before.claim(candidate)).collect();
    let mut room = Room { used: EMPTY_BYTES, names: BTreeMap::new() };
    for (candidate, claim) in candidates.iter().zip(&claims) {
        if let Some(claim) = claim {
            room.add(&candidate.bundle.uid, claim);
        }
    }
    // The names of all bundles, with what a history needs to begin.
    let mut placed = Vec::new();
    for (candidate, claim) in candidates.iter().zip(&claims) {
        let (bundle, served) = place(registry, candidate, claim.as_ref(), before, &holders, &mut room);
        images.extend(served.iter().map(|name| name.image.clone()));
        for name in served {
            if let Entry::Vacant(vacant) = holders.entry(owned_key(&name)) {
                vacant.insert((name.image.digest.clone(), candidate.bundle.name.clone()));
                names.names.push(NamedDigest { name: name.text, digest: name.image.digest.to_string() });
            }
        }
        placed.push(bundle);
    }
    let mut used = room.used;
    let mut history = HistoryDocument::default();
    let mut kept = BTreeSet::new();
    for bundle in unserved {
        let uid = &bundle.uid;
        let Some(entry) = before.history.0.get(uid) else { continue };
        let lists = || std::iter::once(&entry.current).chain(&entry.former);
        let bytes = entry.bytes(uid) + lists().map(|list| former_bytes(list)).sum::<usize>();
        if used + bytes <= MAX_DOCUMENT_BYTES {
            used += bytes;
            kept.extend(lists().flatten().cloned());
            history.0.insert(uid.clone(), entry.clone());
        }
    }
    // Former lists, the last one of each bundle first.
    let mut bundles = Vec::new();
    for (candidate, Placed { mut plan, entry }) in candidates.iter().zip(placed) {
        if let Some(mut entry) = entry {
            // Images for which no name stands: an older bundle holds it, or the specification was not readable
            // before. Stores keep them, since the bundle gets a name that becomes free.
            let unnamed: Vec<Image> =
                entry.current.iter().filter(|image| !images.contains(image)).cloned().collect();
            if fitting_lists(std::slice::from_ref(&unnamed), &mut used) == 1 {
                kept.extend(unnamed);
            }
            let wanted = entry.former.len();
            let fitting = fitting_lists(&entry.former, &mut used);
            entry.former.truncate(fitting);
            if fitting < wanted {
                plan.complaint = Some(history_cut(registry, fitting, wanted));
            }
            plan.previous = previous(&entry.former);
            kept.extend(entry.former.iter().flatten().cloned());
            history.0.insert(candidate.bundle.uid.clone(), entry);
        }
        bundles.push(plan);
    }
    // Of an unreadable specification nothing is known.
    let is_listed = |spec: &ParsedBundle| {
        spec.names.iter().all(|name| images.contains(&name.image) || kept.contains(&name.image))
    };
    let served = candidates.iter().filter(|candidate| !is_listed(candidate.spec));
    let others = unserved.iter().filter(|bundle| !bundle.spec.as_ref().is_ok_and(is_listed));
    let mut unlisted = BTreeSet::new();
    unlisted.extend(served.map(|candidate| candidate.bundle.uid.clone()));
    unlisted.extend(others.map(|bundle| bundle.uid.clone()));
    names.partial = !unlisted.is_empty();
    names.names.sort();
    names.keep = kept.into_iter().filter(|image| !images.contains(image)).collect();
    Fitted { names, history, images: images.into_iter().collect(), bundles, unlisted }
}

/// Judges the names of a bundle, and takes their room. Returns the judgement, and the names to serve.
fn place(
    registry: &Registry,
    candidate: &Candidate<'_>,
    claim: Option<&Claim>,
    before: &Former,
    holders: &Holders,
    room: &mut Room,
) -> (Placed, Vec<ParsedName>) {
    let Candidate { bundle, spec } = candidate;
    let uid = &bundle.uid;
    let (accepted, taken): (Vec<&ParsedName>, Vec<&ParsedName>) =
        spec.names.iter().partition(|name| is_free(holders, name));
    let wanted = Claim {
        names: accepted.into_iter().cloned().collect(),
        // Without former lists, too: images of a bundle that becomes unreadable are known from its entry
        // alone.
        current: sorted_images(&spec.names),
    };
    if let Some(claim) = claim {
        room.remove(uid, claim);
    }
    let free = MAX_DOCUMENT_BYTES.saturating_sub(room.used);
    room.add(uid, &wanted);
    if room.used > MAX_DOCUMENT_BYTES {
        let bytes = room.used.saturating_sub(MAX_DOCUMENT_BYTES) + free;
        room.remove(uid, &wanted);
        let former = claim.map(|claim| Claim {
            names: claim.names.iter().filter(|name| is_free(holders, name)).cloned().collect(),
            current: claim.current.clone(),
        });
        let verdict = too_large(registry, bytes, free, former.as_ref());
        let mut plan = BundlePlan::refused(bundle, Some(registry.identity.uid.clone()), verdict);
        let Some(former) = former else { return (Placed { plan, entry: None }, Vec::new()) };
        room.add(uid, &former);
        plan.names = spec.names.iter().filter(|name| former.has(name)).cloned().collect();
        let mut entry = before.history.0.get(uid).cloned().unwrap_or_default();
        entry.former.truncate(spec.history);
        return (Placed { plan, entry: Some(entry) }, former.names);
    }
    let plan = BundlePlan {
        uid: uid.clone(),
        registry: Some(registry.identity.uid.clone()),
        total: spec.names.len(),
        names: wanted.names.clone(),
        refusal: name_taken(candidate, &taken, holders),
        complaint: None,
        previous: Vec::new(),
    };
    let entry = Some(advanced(candidate, &before.history));
    (Placed { plan, entry }, wanted.names)
}

/// Returns the number of lists of images that fit, and takes their room.
fn fitting_lists(lists: &[Vec<Image>], used: &mut usize) -> usize {
    let mut fitting = 0;
    for list in lists {
        let bytes = if list.is_empty() { 0 } else { former_bytes(list) };
        if *used + bytes > MAX_DOCUMENT_BYTES {
            break;
        }
        *used += bytes;
        fitting += 1;
    }
    fitting
}

fn too_large(registry: &Registry, bytes: usize, free: usize, former: Option<&Claim>) -> Verdict {
    let map = names_map_name(&registry.identity.name);
    let served = match former {
        Some(former) if !former.names.is_empty() => {
            format!("; the former names ({}) are served on", former.names.len())
        }
        _ => String::new(),
    };
    let message = format!(
        "the names do not fit into ConfigMap {map}: they need {bytes} bytes, and {free} of {MAX_DOCUMENT_BYTES} are free \
         beside older bundles and names that are served already{served}; use fewer or shorter names, or another Quinistry"
    );
    Verdict { reason: BundleReason::TooLarge, message }
}

fn history_cut(registry: &Registry, fitting: usize, wanted: usize) -> Verdict {
    Verdict {
        reason: BundleReason::HistoryCut,
        message: format!(
            "{fitting} of {wanted} former lists of images fit into ConfigMap {} beside all names; lower spec.history of \
             bundles, or use fewer bundles",
            names_map_name(&registry.identity.name)
        ),
    }
}

fn name_taken(candidate: &Candidate<'_>, taken: &[&ParsedName], holders: &Holders) -> Option<Verdict> {
    let Candidate { bundle, spec } = candidate;
    let first = taken.first()?;
    let (_, holder) = holders.get(&owned_key(first))?;
    let texts: Vec<&str> = taken.iter().map(|name| name.text.as_str()).collect();
    Some(Verdict {
        reason: BundleReason::NameTaken,
        message: format!(
            "{} of {} names do not count, since older bundles give them other digests: {} ({} is Bundle {}/{}'s); remove \
             them here or there",
            taken.len(),
            spec.names.len(),
            list(&texts),
            first.text,
            bundle.namespace,
            holder
        ),
    })
}

/// Returns true if no older bundle gives a name another digest.
fn is_free(holders: &Holders, name: &ParsedName) -> bool {
    holders.get(&owned_key(name)).is_none_or(|(digest, _)| *digest == name.image.digest)
}

/// Returns the history of a bundle with its present specification. All names of it count, also those that
/// another bundle holds: a name that changes its holder makes no new list.
fn advanced(candidate: &Candidate<'_>, before: &HistoryDocument) -> BundleHistory {
    let known = before.0.get(&candidate.bundle.uid).cloned().unwrap_or_default();
    known.advance(sorted_images(&candidate.spec.names), candidate.spec.history)
}

fn owned_key(name: &ParsedName) -> (RepositoryName, Tag) {
    (name.image.repository.clone(), name.tag.clone())
}

fn sorted_images(names: &[ParsedName]) -> Vec<Image> {
    let mut all = BTreeSet::new();
    all.extend(names.iter().map(|name| name.image.clone()));
    all.into_iter().collect()
}

// === impl Former ===

impl Former {
    /// Returns what a bundle has in the documents: its current images, and the names that stand for them.
    /// `None` for a bundle that is new there.
    fn claim(&self, candidate: &Candidate<'_>) -> Option<Claim> {
        let current = &self.history.0.get(&candidate.bundle.uid)?.current;
        let names = self.names.iter().filter(|name| current.contains(&name.image)).cloned().collect();
        Some(Claim { names, current: current.clone() })
    }
}

// === impl Claim ===

impl Claim {
    fn has(&self, name: &ParsedName) -> bool {
        self.names.iter().any(|own| own.tag == name.tag && own.image == name.image)
    }
}

// === impl Room ===

impl Room {
    fn add(&mut self, uid: &str, claim: &Claim) {
        for name in &claim.names {
            let bytes =
                NamedDigest { name: name.text.clone(), digest: name.image.digest.to_string() }.bytes();
            let (count, taken) = self.names.entry(Self::key(name)).or_insert((0, bytes));
            *count += 1;
            if *count == 1 {
                self.used += *taken;
            }
        }
        self.used += Self::entry_bytes(uid, claim);
    }

    /// Takes back what [`Room::add`] has added for the same claim.
    fn remove(&mut self, uid: &str, claim: &Claim) {
        for name in &claim.names {
            let key = Self::key(name);
            let Some((count, taken)) = self.names.get_mut(&key) else { continue };
            *count -= 1;
            if *count == 0 {
                self.used -= *taken;
                self.names.remove(&key);
            }
        }
        self.used -= Self::entry_bytes(uid, claim);
    }

    fn key(name: &ParsedName) -> (RepositoryName, Tag, Digest) {
        (name.image.repository.clone(), name.tag.clone(), name.image.digest.clone())
    }

    fn entry_bytes(uid: &str, claim: &Claim) -> usize {
        BundleHistory { current: claim.current.clone(), former: Vec::new() }.bytes(uid)
    }
}
