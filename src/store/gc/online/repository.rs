//! Mark of one repository.

mod doomed;
mod lists;
mod order;
mod referrers;
mod sessions;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use quinistry_oci::{Digest, RepositoryName};

use self::order::parents_first;
use super::edges::{Edge, Edges, Part};
use super::mark::{Candidate, Context, Mark, lock};
use super::prior::State;
use super::report::UnknownNeeds;
use super::subject::{ContentId, Subject, SubjectHash, SubjectKind};
use crate::gc::rules::LooseRevision;
use crate::layout::{Key, RepositoryKeys};
use crate::{Store, StoreError};

/// Manifest of a repository.
#[derive(Debug)]
struct Revision {
    modified: SystemTime,
    /// Keys beside the link by the SHA-256 that belong to the manifest.
    keys: Vec<Key>,
    is_noted: bool,
}

/// Names by other hashes, each with the content that its link leads to.
type OtherNames = HashMap<Digest, ContentId>;

/// Manifests of a repository, and their edges.
#[derive(Default)]
struct Revisions {
    found: BTreeMap<ContentId, Revision>,
    others: OtherNames,
    edges: Edges,
    /// Links that do not tell their content.
    torn: Vec<Key>,
    /// The needs of a manifest or tag are unknown.
    is_damaged: bool,
}

/// Repository in a mark.
struct RepositoryMark<'a> {
    store: &'a Store,
    context: &'a Context<'a>,
    name: &'a RepositoryName,
    keys: RepositoryKeys<'a>,
    unknown: Vec<UnknownNeeds>,
}

impl Store {
    /// Marks a repository: adds the bytes that it needs to the filter, and what is not live to the
    /// candidates.
    pub(super) fn mark_repository(
        &self,
        context: &Context<'_>,
        name: &RepositoryName,
        mark: &Mutex<Mark>,
    ) -> Result<(), StoreError> {
        let keys = RepositoryKeys(name);
        RepositoryMark { store: self, context, name, keys, unknown: Vec::new() }.run(mark)
    }
}

// === impl Revisions ===

impl Revisions {
    /// Returns the content of a part, if its name tells it, or a manifest has that name.
    fn content_of(&self, part: &Part) -> Option<ContentId> {
        match part {
            Part::Content(content) => Some(*content),
            Part::Named(digest) => self.others.get(digest).copied(),
        }
    }

    /// Returns the content of a manifest's name.
    fn content_of_name(&self, digest: &Digest) -> Option<ContentId> {
        ContentId::of(digest).or_else(|| self.others.get(digest).copied())
    }
}

// === impl RepositoryMark ===

impl RepositoryMark<'_> {
    fn run(mut self, mark: &Mutex<Mark>) -> Result<(), StoreError> {
        let mut revisions = self.revisions()?;
        for key in std::mem::take(&mut revisions.torn) {
            self.context.damaged(StoreError::Torn(key))?;
            revisions.is_damaged = true;
        }
        self.read_new(&mut revisions)?;
        self.complete_referrers(&revisions)?;
        let keeps_all = self.context.rules.keeps_all(self.name);
        let tagged = if keeps_all { HashSet::new() } else { self.tagged(&mut revisions)? };
        self.check_sessions()?;
        let live = self.live(&revisions, &tagged, keeps_all);
        let mut needed: HashSet<ContentId> = live.clone();
        for content in &live {
            self.add_parts(&revisions, *content, &mut needed)?;
        }
        let needed_by_others = self.decide_revisions(&revisions, &live)?;
        if !self.unknown.is_empty() {
            lock(mark).note_unknown(std::mem::take(&mut self.unknown));
        }

        let gone: Vec<ContentId> =
            parents_first(&revisions, revisions.found.keys().filter(|of| !live.contains(of)).copied());
        let name = Arc::new(self.name.clone());
        let candidate = |kind, content, modified| Candidate {
            kind,
            repository: Some(name.clone()),
            content,
            length: 0,
            modified,
        };
        // Needed by manifests that are not condemned for want of places.
        let mut left_over: HashSet<ContentId> = HashSet::new();
        let places = {
            let mut mark = lock(mark);
            mark.found.subjects[SubjectKind::Revision as usize] += revisions.found.len() as u64;
            mark.keeps_all_bytes |= revisions.is_damaged;
            for content in &needed {
                mark.filter.insert(*content);
            }
            let places = mark.places(self.context.options).min(gone.len());
            let taken = gone[..places].iter();
            let taken = taken.map(|of| candidate(SubjectKind::Revision, *of, revisions.found[of].modified));
            mark.candidates.extend(taken);
            if places < gone.len() {
                mark.resume.get_or_insert_with(|| self.name.to_string());
            }
            places
        };
        for content in &gone[places..] {
            left_over.insert(*content);
            self.add_parts(&revisions, *content, &mut left_over)?;
        }
        drop(revisions.edges);

        let mut links = Vec::new();
        let mut count = 0;
        self.visit_links(|content, modified| {
            count += 1;
            if self.decide_link(content, modified, revisions.is_damaged, &needed, &needed_by_others) {
                needed.insert(content);
            } else {
                links.push((content, modified));
            }
        })?;
        let mut mark = lock(mark);
        mark.found.subjects[SubjectKind::Link as usize] += count;
        needed.iter().chain(&left_over).for_each(|content| mark.filter.insert(*content));
        let (free, bound): (Vec<_>, Vec<_>) =
            links.into_iter().partition(|(content, _)| !left_over.contains(content));
        let places = mark.places(self.context.options).min(free.len());
        let taken = free[..places].iter();
        let taken: Vec<Candidate> =
            taken.map(|(content, modified)| candidate(SubjectKind::Link, *content, *modified)).collect();
        mark.candidates.extend(taken);
        // Links that are not condemned keep their bytes.
        free[places..].iter().chain(&bound).for_each(|(content, _)| mark.filter.insert(*content));
        if places < free.len() || !bound.is_empty() {
            mark.resume.get_or_insert_with(|| self.name.to_string());
        }
        Ok(())
    }

    /// Returns the live manifests: those that tags, rules or settled decisions keep, and all that these hold.
    fn live(
        &self,
        revisions: &Revisions,
        tagged: &HashSet<ContentId>,
        keeps_all: bool,
    ) -> HashSet<ContentId> {
        if keeps_all || revisions.is_damaged {
            return revisions.found.keys().copied().collect();
        }
        let rules = self.context.rules;
        let keeps_referrers = rules.keeps_referrers(self.name);
        let mut referrers: HashMap<ContentId, Vec<ContentId>> = HashMap::new();
        for (content, edge) in &revisions.edges {
            let subject = edge.subject.as_ref().and_then(|part| revisions.content_of(part));
            if let Some(subject) = subject {
                referrers.entry(subject).or_default().push(*content);
            }
        }
        let loose = |content: &ContentId| LooseRevision {
            digest: content.digest(),
            pushed: revisions.found[content].modified,
        };
        let mut live = HashSet::new();
        let is_root = |(content, revision): &(&ContentId, &Revision)| {
            let edge = revisions.edges.get(content);
            tagged.contains(content)
                || edge.is_some_and(|edge| !edge.is_understood || keeps_referrers && edge.subject.is_some())
                || self.context.is_young(revision.modified)
                || rules.holds(self.name, &loose(content))
                || self.is_settled(**content, revision.modified)
        };
        let roots: Vec<ContentId> =
            revisions.found.iter().filter(is_root).map(|(content, _)| *content).collect();
        Self::reach(revisions, &referrers, roots, &mut live);

        let gone = || revisions.found.keys().filter(|content| !live.contains(content));
        let mut held: HashSet<ContentId> = HashSet::new();
        for content in gone() {
            let Some(edge) = revisions.edges.get(content) else { continue };
            held.extend(edge.children.iter().filter_map(|part| revisions.content_of(part)));
            let subject = edge.subject.as_ref().and_then(|part| revisions.content_of(part));
            if subject.is_some_and(|subject| revisions.found.contains_key(&subject)) {
                held.insert(*content);
            }
        }
        let mut open: Vec<ContentId> = gone().filter(|content| !held.contains(content)).copied().collect();
        // An index about its own child is held by what it holds: the rules must be asked about all that no loose manifest
        // leads to.
        let mut reached = HashSet::new();
        Self::reach(revisions, &referrers, open.clone(), &mut reached);
        open.extend(gone().filter(|content| !reached.contains(content)));
        let open: Vec<LooseRevision> = open.iter().map(loose).collect();
        if !open.is_empty() {
            let kept = rules.kept(self.name, &open);
            let kept = kept.iter().filter_map(ContentId::of).collect();
            Self::reach(revisions, &referrers, kept, &mut live);
        }
        live
    }

    /// Adds manifests, their children, and the referrers of these. Each is visited once.
    fn reach(
        revisions: &Revisions,
        referrers: &HashMap<ContentId, Vec<ContentId>>,
        mut open: Vec<ContentId>,
        live: &mut HashSet<ContentId>,
    ) {
        while let Some(content) = open.pop() {
            if !revisions.found.contains_key(&content) || !live.insert(content) {
                continue;
            }
            let children = revisions.edges.get(&content).map(|edge| &edge.children[..]).unwrap_or_default();
            open.extend(children.iter().filter_map(|part| revisions.content_of(part)));
            open.extend(referrers.get(&content).into_iter().flatten());
        }
    }

    fn prior_revision(&self, content: ContentId) -> Option<(usize, SubjectHash)> {
        let prior = self.context.prior.as_ref()?;
        if prior.len(SubjectKind::Revision) == 0 {
            return None;
        }
        let hash = Subject::revision(self.name, &content.digest()).hash();
        Some((prior.position(SubjectKind::Revision, hash)?, hash))
    }

    /// Returns true if a condemned manifest stays in this cycle: it was revived or decided upon before, or
    /// written since it was condemned.
    fn is_settled(&self, content: ContentId, modified: SystemTime) -> bool {
        let (Some(prior), Some((at, _))) = (&self.context.prior, self.prior_revision(content)) else {
            return false;
        };
        prior.is_settled(SubjectKind::Revision, at) || prior.is_written_since(modified)
    }

    /// Notes which condemned manifests can be removed. Returns the content that other manifests need which
    /// are not live and stay all the same.
    fn decide_revisions(
        &self,
        revisions: &Revisions,
        live: &HashSet<ContentId>,
    ) -> Result<HashSet<ContentId>, StoreError> {
        let mut needed = HashSet::new();
        let Some(prior) = &self.context.prior else { return Ok(needed) };
        let is_new = |content: &ContentId| !live.contains(content) && self.prior_revision(*content).is_none();
        // An index that was pushed and lost its tag since the condemnation holds manifests that were condemned before it.
        let mut staying = HashSet::new();
        let new: Vec<ContentId> = revisions.found.keys().filter(|content| is_new(content)).copied().collect();
        Self::reach(revisions, &HashMap::new(), new, &mut staying);
        for (content, revision) in &revisions.found {
            let stays = staying.contains(content);
            match self.prior_revision(*content) {
                Some((at, _)) if stays || live.contains(content) => {
                    prior.set(SubjectKind::Revision, at, State::Live);
                }
                Some((at, hash)) => {
                    prior.set(SubjectKind::Revision, at, State::Removable);
                    self.note_extras(prior, revisions, (*content, revision), hash);
                }
                None => {}
            }
            if stays && !live.contains(content) {
                needed.insert(*content);
                self.add_parts(revisions, *content, &mut needed)?;
            }
        }
        for content in &needed {
            prior.hold_bytes(*content);
        }
        Ok(needed)
    }

    /// Adds the content of a manifest's parts.
    fn add_parts(
        &self,
        revisions: &Revisions,
        content: ContentId,
        needed: &mut HashSet<ContentId>,
    ) -> Result<(), StoreError> {
        let Some(edge) = revisions.edges.get(&content) else { return Ok(()) };
        for part in Edge::parts(edge) {
            match part {
                Part::Content(content) => drop(needed.insert(*content)),
                Part::Named(digest) => {
                    self.context.take(1);
                    let found = self.store.part(self.name, digest)?;
                    needed.extend(found.as_ref().and_then(ContentId::of));
                }
            }
        }
        Ok(())
    }

    /// Returns true if a link is live, and notes if it can be removed.
    fn decide_link(
        &self,
        content: ContentId,
        modified: SystemTime,
        keeps_all: bool,
        needed: &HashSet<ContentId>,
        needed_by_others: &HashSet<ContentId>,
    ) -> bool {
        let mut is_live = keeps_all || needed.contains(&content) || self.context.is_young(modified);
        let Some(prior) = &self.context.prior else { return is_live };
        let at = if prior.len(SubjectKind::Link) == 0 {
            None
        } else {
            prior.position(SubjectKind::Link, Subject::link(self.name, &content.digest()).hash())
        };
        let Some(at) = at else {
            if !is_live {
                prior.hold_bytes(content);
            }
            return is_live;
        };
        is_live |= prior.is_written_since(modified) || prior.is_settled(SubjectKind::Link, at);
        let state = if is_live {
            State::Live
        } else if needed_by_others.contains(&content) {
            prior.hold_bytes(content);
            State::Needed
        } else {
            State::Removable
        };
        prior.set(SubjectKind::Link, at, state);
        is_live
    }
}
