//! Contents of a bucket in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use super::body::{Body, etag};
use super::{HonoredConditions, MemOptions, Versions, refuse};
use crate::{Condition, ObjectError, ObjectErrorKind, ObjectMeta, Put};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) objects: BTreeMap<String, Stored>,
    /// Uploads by their names.
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Number of changes so far.
    changes: u64,
    /// Objects as lists show them, where lists lag.
    listed: BTreeMap<String, ObjectMeta>,
    /// Changes that lists do not show yet.
    unlisted: VecDeque<(SystemTime, String, Option<ObjectMeta>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) meta: ObjectMeta,
    pub(super) body: Body,
}

/// An upload in parts that has not ended.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) begun: SystemTime,
    /// Parts by number, with their tags.
    pub(super) parts: BTreeMap<u32, (String, Body)>,
}

impl State {
    /// Returns the next number of a change.
    pub(super) fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    pub(super) fn insert(
        &mut self,
        options: &MemOptions,
        key: &str,
        body: Body,
        tag: Option<String>,
        modified: SystemTime,
    ) -> Put {
        let change = self.next_change();
        let version = match options.versions {
            Versions::Generations => change.to_string(),
            Versions::Etags => tag.unwrap_or_else(|| etag(&body.md5(), "")),
        };
        let meta = ObjectMeta { length: body.length(), modified, version: version.clone() };
        self.record(options, key, Some(meta.clone()), modified);
        self.objects.insert(key.to_owned(), Stored { meta, body });
        Put { version: Some(version) }
    }

    pub(super) fn remove(&mut self, options: &MemOptions, key: &str, now: SystemTime) {
        if self.objects.remove(key).is_some() {
            self.record(options, key, None, now);
        }
    }

    /// Remembers a change for the lists, where they lag.
    fn record(&mut self, options: &MemOptions, key: &str, meta: Option<ObjectMeta>, at: SystemTime) {
        if !options.list_lag.is_zero() {
            self.unlisted.push_back((at, key.to_owned(), meta));
        }
    }

    /// Shows in lists what is old enough.
    pub(super) fn settle_lists(&mut self, options: &MemOptions, now: SystemTime) {
        while self.unlisted.front().is_some_and(|(at, ..)| *at + options.list_lag <= now) {
            let Some((_, key, meta)) = self.unlisted.pop_front() else { return };
            match meta {
                Some(meta) => self.listed.insert(key, meta),
                None => self.listed.remove(&key),
            };
        }
    }

    /// Returns the entries of a list that follow `after`, the oldest ones first where lists lag.
    pub(super) fn list(
        &self,
        options: &MemOptions,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(String, ObjectMeta)> {
        // A bound below the prefix would only be skipped over.
        let start = after.map_or(prefix, |after| after.max(prefix));
        let is_wanted = |key: &String| after.is_none_or(|after| key.as_str() > after);
        let range = start.to_owned()..;
        if options.list_lag.is_zero() {
            let found = self.objects.range(range).take_while(|(key, _)| key.starts_with(prefix));
            let found = found.filter(|(key, _)| is_wanted(key));
            return found.take(limit).map(|(key, stored)| (key.clone(), stored.meta.clone())).collect();
        }
        let found = self.listed.range(range).take_while(|(key, _)| key.starts_with(prefix));
        let found = found.filter(|(key, _)| is_wanted(key));
        found.take(limit).map(|(key, meta)| (key.clone(), meta.clone())).collect()
    }

    /// Checks the condition of a write.
    pub(super) fn check_write(
        &self,
        options: &MemOptions,
        request: &str,
        key: &str,
        condition: Condition<'_>,
    ) -> Result<(), ObjectError> {
        match options.conditions {
            HonoredConditions::Nothing => return Ok(()),
            HonoredConditions::Refused if condition != Condition::Always => {
                return Err(refuse(ObjectErrorKind::Refused, request, key, "501 NotImplemented"));
            }
            _ => {}
        }
        let version = self.objects.get(key).map(|stored| stored.meta.version.as_str());
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => version.is_none(),
            Condition::Version(expected) => version == Some(expected),
        };
        if holds { Ok(()) } else { Err(precondition(request, key)) }
    }

    /// Checks the condition of a removal. That of an absent object holds, as on S3.
    pub(super) fn check_removal(
        &self,
        options: &MemOptions,
        key: &str,
        condition: Condition<'_>,
    ) -> Result<(), ObjectError> {
        match options.conditions {
            HonoredConditions::All => {}
            HonoredConditions::Refused if condition != Condition::Always => {
                return Err(refuse(ObjectErrorKind::Refused, "delete", key, "501 NotImplemented"));
            }
            _ => return Ok(()),
        }
        let Some(stored) = self.objects.get(key) else { return Ok(()) };
        match condition {
            Condition::Always => Ok(()),
            Condition::Version(expected) if expected == stored.meta.version => Ok(()),
            Condition::Absent | Condition::Version(_) => Err(precondition("delete", key)),
        }
    }
}

fn precondition(request: &str, key: &str) -> ObjectError {
    refuse(ObjectErrorKind::Precondition, request, key, "412 PreconditionFailed")
}
