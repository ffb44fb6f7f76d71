//! Registers of repositories: one key for each, so that a page of the catalog is one list from any name on.
//!
//! A register is written before the first link of its repository, and stays. Repositories that another program
//! made have none; until a walk has given them theirs, the walk itself answers. Later walks find the repositories that
//! another program has made since: they are listed from then on.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use quinistry_oci::RepositoryName;

use crate::layout::{self, before_register, register, registers, registers_complete};
use crate::storage::{Entry, SCAN_PAGE_SIZE, StorageError};
use crate::waiting;
use crate::{Lead, Store, StoreError};

/// Folders that make a name a repository.
const MARKS: [&str; 2] = ["_manifests", "_layers"];

/// Number of scans for repositories at a time.
const SCANS_AT_ONCE: usize = 16;

/// First characters of the names of repositories (distribution-spec, "Pulling manifests").
const FIRST_CHARACTERS: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// Time from one walk for repositories of another program to the next.
const WALK_INTERVAL: Duration = Duration::from_hours(24);

/// Time from the start of a process to its first walk, if all repositories have had registers before: another program
/// may have served the storage until now. The requests of the first clients go before.
const FIRST_WALK_DELAY: Duration = Duration::from_secs(15);

/// Number of repositories that a process remembers to have registers.
const MAX_REMEMBERED: usize = 65_536;

impl Store {
    /// Returns the entry that registers a repository, unless the storage is not shared, or the process remembers the
    /// register. Write the entry before the repository's links, and call [`note_registered`](Self::note_registered)
    /// then.
    pub(crate) fn missing_register(&self, name: &RepositoryName) -> Option<Entry<'static>> {
        let shared = self.0.shared.as_ref()?;
        let registered = shared.registered.lock().unwrap_or_else(PoisonError::into_inner);
        (!registered.contains(name)).then(|| (register(name), &[][..]))
    }

    /// Remembers that a repository has a register.
    pub(crate) fn note_registered(&self, name: &RepositoryName) {
        let Some(shared) = &self.0.shared else { return };
        let mut registered = shared.registered.lock().unwrap_or_else(PoisonError::into_inner);
        if registered.len() >= MAX_REMEMBERED {
            registered.clear();
        }
        registered.insert(name.clone());
    }

    /// Visits the repositories of a shared storage in order, from after `last` until the visitor breaks.
    pub(crate) fn visit_shared_repositories(
        &self,
        last: &str,
        visit: &mut dyn FnMut(String) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        if !self.has_all_registers()? {
            let names = self.scan_repositories(&MARKS)?;
            for name in names.into_iter().filter(|name| name.as_str() > last) {
                if visit(name)?.is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let folder = registers();
        let mut after = before_register(last);
        loop {
            let page = self.storage().scan(&folder, after.as_ref(), SCAN_PAGE_SIZE)?;
            for (key, _) in &page.entries {
                let name = layout::registered_name(key);
                let Some(name) = name.filter(|name| name.as_str() > last) else { continue };
                if visit(name)?.is_break() {
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Returns the names of all repositories with one of the folders `marks`, in order, found by their keys: a few
    /// lists for each.
    pub(crate) fn scan_repositories(&self, marks: &[&str]) -> Result<Vec<String>, StoreError> {
        let begins: Vec<char> = FIRST_CHARACTERS.chars().collect();
        let next = AtomicUsize::new(0);
        let scan = || -> Result<Vec<String>, StoreError> {
            let mut names = Vec::new();
            while let Some(begin) = begins.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.scan_repositories_from(*begin, marks, &mut names)?;
            }
            Ok(names)
        };
        let scan_at_once = || {
            thread::scope(|scope| {
                let scans: Vec<_> = (0..SCANS_AT_ONCE).map(|_| scope.spawn(scan)).collect();
                let names = scans.into_iter().map(|scan| scan.join().expect("a scan does not panic"));
                names.collect::<Result<Vec<_>, _>>().map(|names| names.concat())
            })
        };
        let mut names = if waiting::is_scheduled() { scan()? } else { scan_at_once()? };
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Adds the names of the repositories that begin with a character.
    fn scan_repositories_from(
        &self,
        begin: char,
        marks: &[&str],
        names: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let folder = layout::repositories();
        let mut after = layout::repositories_from(begin);
        loop {
            let page = self.storage().scan(&folder, Some(&after), 1)?;
            let path = page.entries.first().and_then(|(key, _)| key.as_str().strip_prefix(folder.as_str()));
            let path = path.and_then(|path| path.strip_prefix('/')).filter(|path| path.starts_with(begin));
            let Some(path) = path else { return Ok(()) };
            after = match path.split_once("/_") {
                // The first component that begins with `_` is not one of the name.
                Some((name, rest)) => {
                    let own = rest.split('/').next().unwrap_or(rest);
                    let is_marked = marks.iter().any(|mark| mark.strip_prefix('_') == Some(own));
                    if is_marked {
                        names.push(name.to_owned());
                    }
                    let may_follow = marks.iter().any(|mark| &mark[1..] > own);
                    if is_marked || !may_follow {
                        layout::behind_repository(name)
                    } else {
                        layout::behind_folder(name, own)
                    }
                }
                None => page.entries[0].0.clone(),
            };
        }
    }

    fn has_all_registers(&self) -> Result<bool, StoreError> {
        let Some(shared) = &self.0.shared else { return Ok(false) };
        // Once set, the mark stays.
        if !shared.has_all_registers.load(Ordering::Relaxed)
            && self.storage().head(&registers_complete())?.is_some()
        {
            shared.has_all_registers.store(true, Ordering::Relaxed);
        }
        Ok(shared.has_all_registers.load(Ordering::Relaxed))
    }

    /// Marks the registers of a storage without repositories as complete when a process starts, at a time of the
    /// storage.
    pub(super) fn complete_registers_of_empty(&self, now: SystemTime) -> Result<(), StoreError> {
        if self.has_all_registers()? || self.storage().exists(&layout::repositories())? {
            self.walk_after(now + FIRST_WALK_DELAY);
            return Ok(());
        }
        self.walk_after(now + WALK_INTERVAL);
        self.mark_complete()
    }

    /// Gives each repository its register, if some may have none at a time of the storage. Stops when the lead is lost:
    /// the next leader begins again, and a register that is written twice stays as it is.
    pub(super) fn complete_registers(&self, now: SystemTime, lead: &Lead) -> Result<(), StoreError> {
        let Some(shared) = &self.0.shared else { return Ok(()) };
        let next_walk = *shared.next_walk.lock().unwrap_or_else(PoisonError::into_inner);
        if next_walk.is_some_and(|at| now < at) && self.has_all_registers()? {
            return Ok(());
        }
        let mut registered = HashSet::new();
        self.scan(&registers(), |key, _| {
            registered.extend(layout::registered_name(&key));
            Ok(())
        })?;
        // Another program may allow names that are not valid here.
        let names = self.scan_repositories(&MARKS)?.into_iter().filter(|name| !registered.contains(name));
        let names: Vec<RepositoryName> = names.filter_map(|name| name.parse().ok()).collect();
        for names in names.chunks(SCAN_PAGE_SIZE) {
            if !lead.still() {
                return Ok(());
            }
            let entries: Vec<Entry<'_>> = names.iter().map(|name| (register(name), &[][..])).collect();
            self.storage().write(&[&entries])?;
        }
        if !names.is_empty() {
            tracing::info!(
                repositories = names.len(),
                "added repositories of another program to the catalog"
            );
        }
        self.walk_after(now + WALK_INTERVAL);
        self.mark_complete()
    }

    fn walk_after(&self, time: SystemTime) {
        if let Some(shared) = &self.0.shared {
            *shared.next_walk.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
        }
    }

    fn mark_complete(&self) -> Result<(), StoreError> {
        if self.has_all_registers()? {
            return Ok(());
        }
        match self.storage().create(&registers_complete(), b"{}") {
            Ok(_) => self.has_all_registers().map(drop),
            // A writer marks them.
            Err(StorageError::ReadOnly) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
