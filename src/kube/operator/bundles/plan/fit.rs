//! Names and histories of all bundles of one registry, as far as they fit into one `ConfigMap`. Older bundles
//! come first; the names of all bundles come before the history of any. Pure.

use std::collections::{BTreeMap, BTreeSet};

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::{BundlePlan, Candidate, Registry, Verdict, list, previous};
use crate::crd::BundleReason;
use crate::operator::bundles::documents::{
    BundleHistory, EMPTY_BYTES, HistoryDocument, MAX_DOCUMENT_BYTES, NamedDigest, NamesDocument, former_bytes,
};
use crate::operator::bundles::parse::{Image, ParsedName};
use crate::operator::naming::names_map_name;

/// Documents of one registry, and the judgements about its bundles.
pub(super) struct Fitted {
    pub names: NamesDocument,
    pub history: HistoryDocument,
    /// Images that names stand for, sorted.
    pub images: Vec<Image>,
    pub bundles: Vec<BundlePlan>,
}

/// Names that bundles hold: the digest, and the holder.
type Holders<'a> = BTreeMap<(&'a RepositoryName, &'a Tag), (&'a Digest, &'a str)>;

/// Fits the bundles of a registry, which are sorted by age. Of `unserved` bundles the history is kept as it
/// is, with all of its images: their specification cannot be read, or no registry serves them yet.
pub(super) fn fit(
    registry: &Registry,
    candidates: &[Candidate<'_>],
    before: &HistoryDocument,
    unserved: &[&str],
) -> Fitted {
    let mut holders = Holders::new();
    let mut names = NamesDocument::default();
    let mut history = HistoryDocument::default();
    let mut images = BTreeSet::new();
    let mut kept = BTreeSet::new();
    let mut used = EMPTY_BYTES;
    let mut bundles = Vec::new();
    // The names of all bundles, with what a history needs to begin.
    for candidate in candidates {
        let (plan, new_names, bytes) = accept(registry, candidate, &mut holders, used);
        used += bytes;
        names.names.extend(new_names);
        images.extend(plan.names.iter().map(|name| name.image.clone()));
        bundles.push(plan);
    }
    // Former lists, the last one of each bundle first.
    for (candidate, plan) in candidates.iter().zip(&mut bundles) {
        if is_too_large(plan) {
            continue;
        }
        let uid = &candidate.bundle.uid;
        let mut entry = advanced(candidate, before);
        let wanted = entry.former.len();
        let mut fitting = 0;
        for list in &entry.former {
            let bytes = former_bytes(list);
            if used + bytes > MAX_DOCUMENT_BYTES {
                break;
            }
            used += bytes;
            fitting += 1;
        }
        entry.former.truncate(fitting);
        if fitting < wanted {
            plan.complaint = Some(Verdict {
                reason: BundleReason::HistoryCut,
                message: format!(
                    "{fitting} of {wanted} former lists of images fit into ConfigMap {} beside all names; lower spec.history \
                     of bundles, or use fewer bundles",
                    names_map_name(&registry.identity.name)
                ),
            });
        }
        plan.previous = previous(&entry.former);
        kept.extend(entry.former.iter().flatten().cloned());
        history.0.insert(uid.clone(), entry);
    }
    for uid in unserved {
        let Some(entry) = before.0.get(*uid) else { continue };
        let lists = || std::iter::once(&entry.current).chain(&entry.former);
        let bytes = entry.bytes(uid) + lists().map(|list| former_bytes(list)).sum::<usize>();
        if used + bytes <= MAX_DOCUMENT_BYTES {
            used += bytes;
            kept.extend(lists().flatten().cloned());
            history.0.insert((*uid).to_owned(), entry.clone());
        }
    }
    names.names.sort();
    names.keep = kept.into_iter().filter(|image| !images.contains(image)).collect();
    Fitted { names, history, images: images.into_iter().collect(), bundles }
}

/// Judges the names of a bundle. Returns the judgement, the new entries, and the bytes that they take.
fn accept<'a>(
    registry: &Registry,
    candidate: &Candidate<'a>,
    holders: &mut Holders<'a>,
    used: usize,
) -> (BundlePlan, Vec<NamedDigest>, usize) {
    let Candidate { bundle, spec } = candidate;
    let (mut accepted, mut taken, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for name in &spec.names {
        match holders.get(&key(name)) {
            Some((digest, _)) if **digest == name.image.digest => accepted.push(name.clone()),
            Some((_, holder)) => taken.push((name, *holder)),
            None => {
                accepted.push(name.clone());
                new.push(name);
            }
        }
    }
    let entries: Vec<NamedDigest> = new
        .iter()
        .map(|name| NamedDigest { name: name.text.clone(), digest: name.image.digest.to_string() })
        .collect();
    let mut bytes: usize = entries.iter().map(NamedDigest::bytes).sum();
    // Without former lists, too: images of a bundle that becomes unreadable are known from its entry alone.
    let entry = BundleHistory { current: sorted_images(&spec.names), former: Vec::new() };
    bytes += entry.bytes(&bundle.uid);
    let uid = Some(registry.identity.uid.clone());
    if used + bytes > MAX_DOCUMENT_BYTES {
        let message = format!(
            "the names do not fit into ConfigMap {}: they need {bytes} bytes, and {} of {MAX_DOCUMENT_BYTES} are free beside \
             older bundles; use fewer or shorter names, or another Quinistry",
            names_map_name(&registry.identity.name),
            MAX_DOCUMENT_BYTES.saturating_sub(used)
        );
        let verdict = Verdict { reason: BundleReason::TooLarge, message };
        return (BundlePlan::refused(bundle, uid, verdict), Vec::new(), 0);
    }
    for name in &new {
        holders.insert(key(name), (&name.image.digest, bundle.name.as_str()));
    }
    let refusal = taken.first().map(|(first, holder)| {
        let texts: Vec<&str> = taken.iter().map(|(name, _)| name.text.as_str()).collect();
        Verdict {
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
        }
    });
    let plan = BundlePlan {
        uid: bundle.uid.clone(),
        registry: uid,
        total: spec.names.len(),
        names: accepted,
        refusal,
        complaint: None,
        previous: Vec::new(),
    };
    (plan, entries, bytes)
}

/// Returns the history of a bundle with its present specification. All names of it count, also those that
/// another bundle holds: a name that changes its holder makes no new list.
fn advanced(candidate: &Candidate<'_>, before: &HistoryDocument) -> BundleHistory {
    let known = before.0.get(&candidate.bundle.uid).cloned().unwrap_or_default();
    known.advance(sorted_images(&candidate.spec.names), candidate.spec.history)
}

fn is_too_large(plan: &BundlePlan) -> bool {
    plan.refusal.as_ref().is_some_and(|refusal| refusal.reason == BundleReason::TooLarge)
}

fn key(name: &ParsedName) -> (&RepositoryName, &Tag) {
    (&name.image.repository, &name.tag)
}

fn sorted_images(names: &[ParsedName]) -> Vec<Image> {
    let mut all = BTreeSet::new();
    all.extend(names.iter().map(|name| name.image.clone()));
    all.into_iter().collect()
}
