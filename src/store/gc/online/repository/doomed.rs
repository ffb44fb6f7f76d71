//! Condemned manifests and links of a repository whose removal goes on without a mark.

use std::collections::{HashMap, HashSet};

use quinistry_oci::RepositoryName;

use super::{RepositoryMark, Revision, Revisions};
use crate::gc::online::edges::{Part, ReadEdge};
use crate::gc::online::mark::Context;
use crate::gc::online::prior::{Prior, State};
use crate::gc::online::subject::{ContentId, SubjectHash, SubjectKind};
use crate::layout::RepositoryKeys;
use crate::{Store, StoreError};

impl Store {
    /// Notes the keys that go with the doomed subjects of a repository, as a mark does, and which condemned manifests
    /// can be removed because a manifest that they refer to is doomed.
    pub(in crate::gc::online) fn note_doomed(
        &self,
        context: &Context<'_>,
        name: &RepositoryName,
    ) -> Result<(), StoreError> {
        let keys = RepositoryKeys(name);
        RepositoryMark { store: self, context, name, keys, unknown: Vec::new() }.note_doomed()
    }
}

impl RepositoryMark<'_> {
    fn note_doomed(&self) -> Result<(), StoreError> {
        let Some(prior) = &self.context.prior else { return Ok(()) };
        let mut revisions = self.revisions()?;
        self.tag_links(&mut revisions)?;
        let mut condemned: HashMap<ContentId, (usize, SubjectHash)> = HashMap::new();
        for content in revisions.found.keys() {
            condemned.extend(self.prior_revision(*content).map(|prior| (*content, prior)));
        }
        self.read_condemned(&mut revisions, &condemned)?;
        let broken = self.broken(prior, &revisions, &condemned);
        for (content, (at, hash)) in condemned {
            if broken.contains(&content) {
                prior.set(SubjectKind::Revision, at, State::Removable);
            } else if !prior.is_doomed(SubjectKind::Revision, at) {
                continue;
            }
            self.note_extras(prior, &revisions, (content, &revisions.found[&content]), hash);
        }
        self.visit_links(|_, _| ())
    }

    /// Finds the edges of condemned manifests. One that is absent or damaged has none.
    fn read_condemned(
        &self,
        revisions: &mut Revisions,
        condemned: &HashMap<ContentId, (usize, SubjectHash)>,
    ) -> Result<(), StoreError> {
        self.context.take(1);
        revisions.edges = self.store.saved_edges(self.name)?;
        let mut new = Vec::new();
        for content in condemned.keys().filter(|content| !revisions.edges.contains_key(*content)) {
            let pushed_as = || self.store.pushed_as(self.name, &content.digest());
            new.push((*content, if revisions.found[content].is_noted { pushed_as()? } else { None }));
        }
        let read = self.store.read_edges(&new, &|requests| self.context.take(requests))?;
        for ((content, _), edge) in new.into_iter().zip(read) {
            if let ReadEdge::Known(edge) = edge {
                revisions.edges.insert(content, edge);
            }
        }
        Ok(())
    }

    /// Returns the condemned manifests that refer to a doomed one, at any depth.
    ///
    /// The mark that doomed a manifest has found that nothing live refers to it, so that these are not live either. They
    /// must not stay: a new index could name one, and would be incomplete.
    fn broken(
        &self,
        prior: &Prior,
        revisions: &Revisions,
        condemned: &HashMap<ContentId, (usize, SubjectHash)>,
    ) -> HashSet<ContentId> {
        let mut parents: HashMap<ContentId, Vec<ContentId>> = HashMap::new();
        let mut open = Vec::new();
        for content in condemned.keys() {
            let children = revisions.edges.get(content).map(|edge| &edge.children[..]).unwrap_or_default();
            for child in children.iter().filter_map(|part| revisions.content_of(part)) {
                parents.entry(child).or_default().push(*content);
                let doomed = self.prior_revision(child);
                if doomed.is_some_and(|(at, _)| prior.is_doomed(SubjectKind::Revision, at)) {
                    open.push(*content);
                }
            }
        }
        let mut broken = HashSet::new();
        while let Some(content) = open.pop() {
            if broken.insert(content) {
                open.extend(parents.get(&content).into_iter().flatten());
            }
        }
        broken
    }

    /// Notes the keys that go with a condemned manifest.
    pub(super) fn note_extras(
        &self,
        prior: &Prior,
        revisions: &Revisions,
        (content, revision): (ContentId, &Revision),
        hash: SubjectHash,
    ) {
        prior.add_extras(hash, revision.keys.iter().cloned());
        let subject = revisions.edges.get(&content).and_then(|edge| edge.subject.as_ref());
        let subject = subject.map(|part| match part {
            Part::Content(content) => content.digest(),
            Part::Named(digest) => (**digest).clone(),
        });
        if let Some(subject) = subject {
            let names = revisions.others.iter().filter(|(_, of)| **of == content);
            let names = names.map(|(digest, _)| digest.clone()).chain([content.digest()]);
            prior.add_extras(hash, names.map(|digest| self.keys.referrer(&subject, &digest)));
            prior.add_extras(hash, [self.keys.referrers_version()]);
        }
    }
}
