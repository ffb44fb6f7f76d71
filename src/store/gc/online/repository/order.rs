//! Order in which a repository's manifests are condemned.

use std::collections::{HashMap, HashSet};

use super::Revisions;
use crate::gc::online::subject::ContentId;

/// Orders manifests so that each stands behind all that refer to it.
pub(super) fn parents_first(revisions: &Revisions, of: impl Iterator<Item = ContentId>) -> Vec<ContentId> {
    let all: HashSet<ContentId> = of.collect();
    let children = |content: &ContentId| {
        let edge = revisions.edges.get(content);
        let children = edge.map(|edge| &edge.children[..]).unwrap_or_default().iter();
        children.filter_map(|part| revisions.content_of(part))
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
