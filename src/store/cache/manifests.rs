//! Manifests that were read lately, checked once: their bytes never change, so that nothing here is ever out of date.
//! Whether a repository still has one is not answered here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quinistry_oci::Content;
use quinistry_oci::Digest;

use crate::storage::Identity;

/// How many bytes are kept.
const ROOM: usize = 4 * 1024 * 1024;

/// Length of the longest manifest whose bytes are kept. Longer ones are rare, and would push all others out.
pub(crate) const LONGEST: usize = 256 * 1024;

/// Most longer manifests of which is remembered that they were checked, as open files.
const MAX_LONG: usize = 32;

/// A manifest under its SHA-256, with the type that its bytes tell.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
}

/// A longer manifest that was checked, to be read by pieces.
#[derive(Clone, Debug)]
pub(crate) struct Long {
    pub(crate) content: Content,
    pub(crate) media_type: &'static str,
    /// Identity of the file that was checked.
    pub(crate) identity: Option<Identity>,
}

#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Digest, Known>,
    /// In the order in which they came.
    order: VecDeque<Digest>,
    used: usize,
    /// Long manifests in the order in which they came.
    long: VecDeque<(Digest, Long)>,
}

impl Recent {
    pub(crate) fn get(&self, canonical: &Digest) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(canonical).cloned()
    }

    /// Returns a longer manifest that was checked before.
    pub(crate) fn long(&self, canonical: &Digest) -> Option<Long> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.long.iter().find(|(digest, _)| digest == canonical).map(|(_, long)| long.clone())
    }

    pub(crate) fn put_long(&self, canonical: &Digest, long: Long) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.long.retain(|(digest, _)| digest != canonical);
        inner.long.push_back((canonical.clone(), long));
        if inner.long.len() > MAX_LONG {
            inner.long.pop_front();
        }
    }

    pub(crate) fn put(&self, canonical: &Digest, known: &Known) {
        if known.bytes.len() > LONGEST {
            return;
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        if inner.known.insert(canonical.clone(), known.clone()).is_some() {
            return;
        }
        inner.order.push_back(canonical.clone());
        inner.used += known.bytes.len();
        while inner.used > ROOM {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.used -= inner.known.remove(&oldest).map_or(0, |known| known.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_longer_ones_there_is_an_end_too() {
        let recent = Recent::default();
        let long = Long { content: Content::default(), media_type: "x", identity: None };
        let digests: Vec<Digest> = (0..40_u8).map(|i| Digest::sha256(&[i])).collect();
        for digest in digests.iter().chain(&digests[39..]) {
            recent.put_long(digest, long.clone());
        }
        let there: Vec<bool> = digests.iter().map(|digest| recent.long(digest).is_some()).collect();
        assert_eq!(there, [vec![false; 8], vec![true; 32]].concat());
    }

    #[test]
    fn the_oldest_make_room() {
        let recent = Recent::default();
        let known = Known { bytes: vec![0; LONGEST].into(), media_type: "x" };
        let digests: Vec<Digest> = (0..20_u8).map(|i| Digest::sha256(&[i])).collect();
        for digest in &digests {
            recent.put(digest, &known);
            recent.put(digest, &known);
        }
        let there: Vec<bool> = digests.iter().map(|digest| recent.get(digest).is_some()).collect();
        assert_eq!(there, [vec![false; 4], vec![true; 16]].concat());
        assert_eq!(recent.0.lock().unwrap().used, ROOM);
    }
}
