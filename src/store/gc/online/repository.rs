//! Mark of one repository.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName, Tag};

use super::edges::{Edge, Edges, Part, ReadEdge};
use super::mark::{Candidate, Context, Mark, lock};
use super::prior::State;
use super::report::UnknownNeeds;
use super::subject::{ContentId, Subject, SubjectHash, SubjectKind};
use crate::gc::rules::LooseRevision;
use crate::layout::{Key, RepositoryKeys, TAG_LINK};
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// Number of links that are read at once.
const LINKS_AT_ONCE: usize = 32;

/// Time by which our own session has a record beside its begin: longer than any request takes.
const RECORD_DELAY: Duration = Duration::from_mins(2);

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
    /// Marks a repository: adds the bytes that it needs to the filter, and what is not live to the candidates.
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

// === impl RepositoryMark ===

impl RepositoryMark<'_> {
    fn run(mut self, mark: &Mutex<Mark>) -> Result<(), StoreError> {
        let mut revisions = self.revisions()?;
        self.read_new(&mut revisions)?;
        let keeps_all = self.context.rules.keeps_all(self.name);
        let tagged = if keeps_all { HashSet::new() } else { self.tagged(&mut revisions)? };
        self.check_sessions()?;
        let live = self.live(&revisions, &tagged, keeps_all);
        let mut needed: HashSet<ContentId> = live.clone();
        for content in &live {
            self.add_parts(&revisions, *content, &mut needed)?;
        }
        let needed_by_others = self.decide_revisions(&revisions, &live)?;
        lock(mark).unknown.append(&mut self.unknown);

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
            needed.iter().for_each(|content| mark.filter.insert(*content));
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

    /// Lists the manifests.
    fn revisions(&mut self) -> Result<Revisions, StoreError> {
        let folder = self.keys.all_revisions();
        let mut revisions = Revisions::default();
        let mut others = Vec::new();
        self.store.scan_slowly(self.context, &folder, |key, meta| {
            let Some((digest, file)) = split_digest(&key, &folder) else { return Ok(()) };
            match (ContentId::of(&digest), file) {
                // A torn link names its content by its place, and keeps it.
                (Some(content), "link") => {
                    let revision = Revision { modified: meta.modified, keys: Vec::new(), is_noted: false };
                    revisions.found.insert(content, revision);
                }
                // Behind the link, in the order of keys.
                (Some(content), "mediatype") => {
                    if let Some(revision) = revisions.found.get_mut(&content) {
                        revision.is_noted = true;
                        revision.keys.push(key);
                    }
                }
                (None, "link" | "mediatype") => others.push((digest, key, meta.modified)),
                _ => {}
            }
            Ok(())
        })?;
        for (digest, key, modified) in others {
            let content = match revisions.others.get(&digest) {
                Some(content) => Some(*content),
                None => {
                    self.context.take(1);
                    self.store.revision(self.name, &digest)?.as_ref().and_then(ContentId::of)
                }
            };
            let Some(content) = content else {
                self.context.damaged(StoreError::Torn(key))?;
                revisions.is_damaged = true;
                continue;
            };
            revisions.others.insert(digest, content);
            let new = || Revision { modified, keys: Vec::new(), is_noted: false };
            revisions.found.entry(content).or_insert_with(new).keys.push(key);
        }
        Ok(revisions)
    }

    /// Reads the manifests whose edges are not known, and saves the edges.
    fn read_new(&mut self, revisions: &mut Revisions) -> Result<(), StoreError> {
        self.context.take(1);
        let mut saved = self.store.saved_edges(self.name)?;
        let before = saved.len();
        let mut new: Vec<(ContentId, Option<&'static str>)> = Vec::new();
        for (content, revision) in &revisions.found {
            let noted = if revision.is_noted {
                self.context.take(1);
                self.store.pushed_as(self.name, &content.digest())?
            } else {
                None
            };
            match saved.remove(content) {
                Some(edge) if edge.noted == noted => drop(revisions.edges.insert(*content, edge)),
                _ => new.push((*content, noted)),
            }
        }
        let read = self.store.read_edges(&new, &|requests| self.context.take(requests))?;
        let has_new = !new.is_empty();
        for ((content, _), read) in new.into_iter().zip(read) {
            match read {
                ReadEdge::Known(edge) => drop(revisions.edges.insert(content, edge)),
                // Its parts cannot be needed any more.
                ReadEdge::Absent => {}
                ReadEdge::Damaged => self.note_damaged(content, revisions)?,
            }
        }
        for (content, _) in revisions.edges.iter().filter(|(_, edge)| !edge.is_understood) {
            self.unknown.push(UnknownNeeds {
                repository: self.name.clone(),
                digest: content.digest(),
                is_damaged: false,
            });
        }
        if !self.context.options.dry_run && (has_new || before != revisions.edges.len()) {
            self.context.take(1);
            self.store.save_edges(self.name, &revisions.edges)?;
        }
        Ok(())
    }

    fn note_damaged(&mut self, content: ContentId, revisions: &mut Revisions) -> Result<(), StoreError> {
        let (repository, digest) = (self.name.clone(), content.digest());
        let tags = self.store.tags_of(self.name, &digest)?;
        let tags = tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let tags = if tags.is_empty() { "no tag".to_owned() } else { tags };
        self.context.damaged(StoreError::DamagedIn {
            repository: repository.clone(),
            digest: digest.clone(),
            tags,
        })?;
        self.unknown.push(UnknownNeeds { repository, digest, is_damaged: true });
        revisions.is_damaged = true;
        Ok(())
    }

    /// Returns the manifests that tags refer to, and notes the index entries that go with condemned manifests.
    fn tagged(&self, revisions: &mut Revisions) -> Result<HashSet<ContentId>, StoreError> {
        let folder = self.keys.tags();
        let mut links = Vec::new();
        let mut index = Vec::new();
        self.store.scan_slowly(self.context, &folder, |key, _| {
            let Some((tag, rest)) = key.beneath(&folder) else { return Ok(()) };
            if rest == TAG_LINK && tag.parse::<Tag>().is_ok() {
                links.push(key);
            } else if let Some(path) = rest.strip_prefix("index/")
                && let Some(digest) = digest_of_path(path.strip_suffix("/link").unwrap_or_default())
            {
                let content = ContentId::of(&digest).or_else(|| revisions.others.get(&digest).copied());
                index.extend(content.map(|content| (content, key)));
            }
            Ok(())
        })?;
        for (content, key) in index {
            if self.prior_revision(content).is_some()
                && let Some(revision) = revisions.found.get_mut(&content)
            {
                revision.keys.push(key);
            }
        }
        let mut tagged = HashSet::new();
        for batch in links.chunks(LINKS_AT_ONCE) {
            self.context.take(batch.len());
            let read = self.store.storage().read_all(batch, MAX_LINK_BYTES)?;
            for (key, link) in batch.iter().zip(read) {
                let text = link.as_ref().map(|link| std::str::from_utf8(link).unwrap_or_default().trim());
                match text.map(str::parse::<Digest>) {
                    Some(Ok(digest)) => {
                        let content =
                            ContentId::of(&digest).or_else(|| revisions.others.get(&digest).copied());
                        tagged.extend(content);
                    }
                    // Torn by a crash of another program, or removed since it was listed.
                    _ if self.store.storage().head(key)?.is_none() => {}
                    _ => {
                        self.context.damaged(StoreError::Torn(key.clone()))?;
                        revisions.is_damaged = true;
                    }
                }
            }
        }
        Ok(tagged)
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
            let subject = edge.subject.as_ref().and_then(|part| self.known_content(revisions, part));
            if let Some(subject) = subject {
                referrers.entry(subject).or_default().push(*content);
            }
        }
        let mut live = HashSet::new();
        let is_root = |(content, revision): &(&ContentId, &Revision)| {
            let edge = revisions.edges.get(content);
            tagged.contains(content)
                || edge.is_some_and(|edge| !edge.is_understood || keeps_referrers && edge.subject.is_some())
                || self.context.is_young(revision.modified)
                || self.is_settled(**content, revision.modified)
        };
        let roots: Vec<ContentId> =
            revisions.found.iter().filter(is_root).map(|(content, _)| *content).collect();
        self.reach(revisions, &referrers, roots, &mut live);

        let gone = || revisions.found.keys().filter(|content| !live.contains(content));
        let mut held: HashSet<ContentId> = HashSet::new();
        for content in gone() {
            let Some(edge) = revisions.edges.get(content) else { continue };
            held.extend(edge.children.iter().filter_map(|part| self.known_content(revisions, part)));
            let subject = edge.subject.as_ref().and_then(|part| self.known_content(revisions, part));
            if subject.is_some_and(|subject| revisions.found.contains_key(&subject)) {
                held.insert(*content);
            }
        }
        let loose: Vec<LooseRevision> = gone()
            .filter(|content| !held.contains(content))
            .map(|content| LooseRevision {
                digest: content.digest(),
                pushed: revisions.found[content].modified,
            })
            .collect();
        if !loose.is_empty() {
            let kept = rules.kept(self.name, &loose);
            let kept = kept.iter().filter_map(ContentId::of).collect();
            self.reach(revisions, &referrers, kept, &mut live);
        }
        live
    }

    /// Adds manifests, their children, and the referrers of these. Each is visited once.
    fn reach(
        &self,
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
            open.extend(children.iter().filter_map(|part| self.known_content(revisions, part)));
            open.extend(referrers.get(&content).into_iter().flatten());
        }
    }

    fn known_content(&self, revisions: &Revisions, part: &Part) -> Option<ContentId> {
        match part {
            Part::Content(content) => Some(*content),
            Part::Named(digest) => revisions.others.get(digest).copied(),
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

    /// Returns true if a condemned manifest stays in this cycle: it was revived or decided upon before, or written
    /// since it was condemned.
    fn is_settled(&self, content: ContentId, modified: SystemTime) -> bool {
        let (Some(prior), Some((at, _))) = (&self.context.prior, self.prior_revision(content)) else {
            return false;
        };
        prior.is_settled(SubjectKind::Revision, at) || prior.is_written_since(modified)
    }

    /// Notes which condemned manifests can be removed. Returns the content that other manifests need which are not live
    /// and stay all the same.
    fn decide_revisions(
        &self,
        revisions: &Revisions,
        live: &HashSet<ContentId>,
    ) -> Result<HashSet<ContentId>, StoreError> {
        let mut needed = HashSet::new();
        let Some(prior) = &self.context.prior else { return Ok(needed) };
        for (content, revision) in &revisions.found {
            let condemned = self.prior_revision(*content);
            match condemned {
                Some((at, _)) if live.contains(content) => {
                    prior.set(SubjectKind::Revision, at, State::Live);
                }
                Some((at, hash)) => {
                    prior.set(SubjectKind::Revision, at, State::Removable);
                    prior.add_extras(hash, revision.keys.iter().cloned());
                    let subject = revisions.edges.get(content).and_then(|edge| edge.subject.as_ref());
                    let subject = subject.map(|part| match part {
                        Part::Content(content) => content.digest(),
                        Part::Named(digest) => (**digest).clone(),
                    });
                    if let Some(subject) = subject {
                        let names = revisions.others.iter().filter(|(_, of)| *of == content);
                        let names = names.map(|(digest, _)| digest.clone()).chain([content.digest()]);
                        prior.add_extras(hash, names.map(|digest| self.keys.referrer(&subject, &digest)));
                        prior.add_extras(hash, [self.keys.referrers_version()]);
                    }
                }
                None if !live.contains(content) => {
                    needed.insert(*content);
                    self.add_parts(revisions, *content, &mut needed)?;
                }
                None => {}
            }
        }
        needed.iter().for_each(|content| prior.hold_bytes(*content));
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

    /// Calls `visit` with each link to a blob. Links by other hashes belong to those by the SHA-256.
    fn visit_links(&self, mut visit: impl FnMut(ContentId, SystemTime)) -> Result<(), StoreError> {
        let folder = self.keys.all_layers();
        let mut others = Vec::new();
        self.store.scan_slowly(self.context, &folder, |key, meta| {
            let Some((digest, "link")) = split_digest(&key, &folder) else { return Ok(()) };
            match ContentId::of(&digest) {
                Some(content) => visit(content, meta.modified),
                None => others.push((digest, key, meta.modified)),
            }
            Ok(())
        })?;
        for (digest, key, modified) in others {
            self.context.take(2);
            let Some(canonical) = self.store.linked(self.name, &digest)? else { continue };
            let Some(content) = ContentId::of(&canonical) else { continue };
            // A blob with other names is also linked by its SHA-256, unless a push was cut off.
            if self.store.storage().head(&self.keys.layer_link(&canonical))?.is_none() {
                visit(content, modified);
            }
            let Some(prior) = &self.context.prior else { continue };
            let hash = Subject::link(self.name, &canonical).hash();
            if prior.position(SubjectKind::Link, hash).is_some() {
                prior.add_extras(hash, [key]);
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

    /// Returns an error if another program has pushed since the last mark, though only this one is said to.
    fn check_sessions(&self) -> Result<(), StoreError> {
        let Some(prior) = self.context.prior.as_ref().filter(|_| self.context.is_alone()) else {
            return Ok(());
        };
        let folder = self.keys.uploads();
        // The session of the last key, whether it has a record of ours, and the begin of one that another made.
        let mut current: Option<(String, bool, bool)> = None;
        let mut foreign = None;
        let is_shared = self.store.is_shared();
        let mut close = |session: Option<(String, bool, bool)>| {
            if let Some((id, is_ours, is_new)) = session
                && is_new
                && !is_ours
            {
                foreign.get_or_insert(folder.child(&id));
            }
        };
        self.store.scan_slowly(self.context, &folder, |key, meta| {
            let Some((id, rest)) = key.beneath(&folder) else { return Ok(()) };
            if current.as_ref().is_none_or(|(current, ..)| current != id) {
                close(current.take());
            }
            let (_, is_ours, is_new) = current.get_or_insert_with(|| (id.to_owned(), false, false));
            // Our own record may come a moment after the begin of a session.
            let is_begun = is_shared && rest == "startedat" && self.context.age(meta.modified) > RECORD_DELAY;
            let is_sign = is_begun || rest.starts_with("hashstates/");
            *is_new |= is_sign && prior.is_written_since(meta.modified);
            *is_ours |= is_shared && rest.starts_with("s.");
            Ok(())
        })?;
        close(current);
        match foreign {
            Some(session) => Err(StoreError::ForeignSession { repository: self.name.clone(), session }),
            None => Ok(()),
        }
    }
}

/// Orders manifests so that each stands behind all that refer to it.
fn parents_first(revisions: &Revisions, of: impl Iterator<Item = ContentId>) -> Vec<ContentId> {
    let all: HashSet<ContentId> = of.collect();
    let children = |content: &ContentId| {
        let edge = revisions.edges.get(content);
        let children = edge.map(|edge| &edge.children[..]).unwrap_or_default().iter();
        children.filter_map(|part| match part {
            Part::Content(content) => Some(*content),
            Part::Named(digest) => revisions.others.get(digest).copied(),
        })
    };
    let mut parents: HashMap<ContentId, usize> = HashMap::new();
    for child in all.iter().flat_map(children).filter(|child| all.contains(child)) {
        *parents.entry(child).or_default() += 1;
    }
    let mut open: Vec<ContentId> =
        all.iter().filter(|content| !parents.contains_key(content)).copied().collect();
    open.sort_unstable();
    let mut ordered = Vec::with_capacity(all.len());
    while let Some(content) = open.pop() {
        ordered.push(content);
        for child in children(&content) {
            if let Some(left) = parents.get_mut(&child) {
                *left -= 1;
                if *left == 0 {
                    open.push(child);
                }
            }
        }
    }
    ordered
}

/// Splits a key `<algorithm>/<hex>/<file>` beneath a folder.
fn split_digest<'a>(key: &'a Key, folder: &Key) -> Option<(Digest, &'a str)> {
    let (algorithm, rest) = key.beneath(folder)?;
    let (hex, file) = rest.split_once('/')?;
    Some((format!("{algorithm}:{hex}").parse().ok()?, file))
}

fn digest_of_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
