//! Scans of a cycle, at its pace.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::mark::Context;
use crate::layout::{Key, blobs};
use crate::storage::{Meta, SCAN_PAGE_SIZE};
use crate::{Store, StoreError};

/// Number of folders of content of a shared storage that are scanned at once: a store that answers a list in 80 ms gives
/// 200 pages a second, twice the default rate.
const CONTENT_SCANS: usize = 16;

impl Store {
    /// Calls `visit` with each key beneath a folder, at the pace of the cycle.
    pub(super) fn scan_slowly(
        &self,
        context: &Context<'_>,
        folder: &Key,
        visit: impl FnMut(Key, Meta) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.scan_slowly_after(context, folder, None, visit)
    }

    fn scan_slowly_after(
        &self,
        context: &Context<'_>,
        folder: &Key,
        mut after: Option<Key>,
        mut visit: impl FnMut(Key, Meta) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            context.take(1);
            let page = self.storage().scan(folder, after.as_ref(), SCAN_PAGE_SIZE)?;
            page.entries.into_iter().try_for_each(|(key, meta)| visit(key, meta))?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Calls `visit` with each key of content, at the pace of the cycle. Where answers take long, the content behind the
    /// first page is scanned side by side, so that its keys come in any order.
    pub(super) fn scan_content_slowly(
        &self,
        context: &Context<'_>,
        mut visit: impl FnMut(Key, Meta) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let folder = blobs();
        if !self.is_shared() || crate::waiting::is_scheduled() {
            return self.scan_slowly(context, &folder, visit);
        }
        context.take(1);
        let page = self.storage().scan(&folder, None, SCAN_PAGE_SIZE)?;
        page.entries.into_iter().try_for_each(|(key, meta)| visit(key, meta))?;
        let Some(after) = page.next else { return Ok(()) };
        // The folder that the first page has not ended. Behind a key of another form, nothing tells which are left.
        let open = after.beneath(&folder).and_then(|(digits, _)| folder_number(digits));
        let Some(open) = open else { return self.scan_slowly_after(context, &folder, Some(after), visit) };
        let next = AtomicUsize::new(open.into());
        std::thread::scope(|scope| {
            // Each scan is a page ahead of the visits at most.
            let (pages, visited) = mpsc::sync_channel(0);
            for _ in 0..CONTENT_SCANS {
                let (pages, next, folder, after) = (pages.clone(), &next, &folder, &after);
                scope.spawn(move || {
                    while let Ok(digits) = u8::try_from(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut from = (digits == open).then(|| after.clone());
                        loop {
                            context.take(1);
                            let child = folder.child(&format!("{digits:02x}"));
                            let page = self.storage().scan(&child, from.as_ref(), SCAN_PAGE_SIZE);
                            from = page.as_ref().ok().and_then(|page| page.next.clone());
                            // The visitor has failed and needs no more.
                            if pages.send(page).is_err() {
                                return;
                            }
                            if from.is_none() {
                                break;
                            }
                        }
                    }
                });
            }
            drop(pages);
            for page in visited {
                page?.entries.into_iter().try_for_each(|(key, meta)| visit(key, meta))?;
            }
            Ok(())
        })
    }
}

/// Returns the number of a folder of content, which has two lower-case hexadecimal digits as its name.
fn folder_number(digits: &str) -> Option<u8> {
    let number = u8::from_str_radix(digits, 16).ok()?;
    (format!("{number:02x}") == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_content_have_two_digits_in_lower_case() {
        for (name, number) in [("00", Some(0)), ("0a", Some(10)), ("ff", Some(255))] {
            assert_eq!(folder_number(name), number);
        }
        for name in ["", "a", "AB", "aB", "+1", "0x", "100", "zz"] {
            assert_eq!(folder_number(name), None, "{name}");
        }
    }
}
