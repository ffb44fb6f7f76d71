//! Contract of [`Storage`]: behaviours that every backend has, for the tests of this crate and of crates with
//! backends of their own (feature `testing`). [`contract_tests!`](crate::contract_tests) makes a test of each.

#![allow(missing_docs, reason = "the name of a behaviour is its documentation")]
#![allow(clippy::needless_pass_by_value, reason = "a behaviour owns its backend, to restart it")]
#![allow(clippy::unwrap_used, reason = "the module is compiled for tests alone")]
#![allow(clippy::must_use_candidate, reason = "the module is compiled for tests alone")]

pub mod concurrency;
pub mod creation;
pub mod keys;
pub mod objects;
pub mod removal;
pub mod restart;
pub mod scans;
pub mod uploads;

use std::sync::Arc;

use bytes::Bytes;

use crate::{Key, Storage};

/// A backend under test, empty at first.
pub struct Backend {
    storage: Arc<dyn Storage>,
    reopen: Option<Box<dyn FnOnce() -> Self + Send + Sync>>,
}

impl Backend {
    /// Creates a backend whose data ends with it.
    pub fn new(storage: impl Storage) -> Self {
        Self { storage: Arc::new(storage), reopen: None }
    }

    /// Creates a backend that is opened again by `reopen` after its storage has been dropped.
    pub fn persistent(storage: impl Storage, reopen: impl FnOnce() -> Self + Send + Sync + 'static) -> Self {
        Self { storage: Arc::new(storage), reopen: Some(Box::new(reopen)) }
    }

    /// Closes the backend and opens it again, as a restart does; `None` if its data ends with the process.
    fn restarted(self) -> Option<Self> {
        drop(self.storage);
        self.reopen.map(|reopen| reopen())
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        self.storage.write(&[&[(key(path), bytes)]]).unwrap();
    }

    fn read(&self, path: &str) -> Option<Bytes> {
        self.storage.read(&key(path), u64::MAX).unwrap()
    }

    /// Returns the paths of all keys beneath a folder, read in pages of `limit`.
    fn scan(&self, folder: &str, limit: usize) -> Vec<String> {
        let mut paths = Vec::new();
        let mut after = None;
        loop {
            let page = self.storage.scan(&key(folder), after.as_ref(), limit).unwrap();
            assert!(page.entries.len() <= limit);
            paths.extend(page.entries.into_iter().map(|(key, _)| key.to_string()));
            after = page.next;
            if after.is_none() {
                return paths;
            }
        }
    }
}

fn key(path: &str) -> Key {
    Key::of_path(path.into()).unwrap()
}

/// Makes a test of each behaviour, for the backend that an expression of type
/// [`Backend`](crate::contract::Backend) makes. With `storage:` before the expression, of those behaviours alone
/// that need no uploads.
#[macro_export]
macro_rules! contract_tests {
    (@ $backend:expr, $file:ident: $($behaviour:ident)*) => {
        mod $file {
            $(#[test]
            fn $behaviour() {
                $crate::contract::$file::$behaviour($backend);
            })*
        }
    };
    (storage: $backend:expr) => {
        $crate::contract_tests!(@ $backend, concurrency:
            a_reader_never_sees_a_part_of_an_entry
            a_later_stage_is_never_seen_before_an_earlier_one
            a_conditional_removal_never_takes_a_newer_write
            writers_of_other_keys_do_not_disturb_each_other
        );
        $crate::contract_tests!(@ $backend, creation:
            a_key_without_bytes_is_created
            existing_bytes_are_returned_and_not_changed
            a_removed_key_is_created_again
            existing_bytes_beyond_the_limit_are_an_error
            of_creators_at_once_one_wins_and_the_others_see_its_bytes
        );
        $crate::contract_tests!(@ $backend, keys:
            a_name_that_is_too_long_is_refused_or_stored_whole
            a_key_beneath_an_object_is_refused_or_stored_and_the_object_stays
            names_are_taken_as_they_are
        );
        $crate::contract_tests!(@ $backend, objects:
            written_bytes_are_found_by_every_call
            a_key_without_bytes_is_absent_to_every_call
            a_folder_of_keys_is_no_object
            a_second_write_replaces_bytes_and_tag
            open_content_does_not_change_when_its_key_is_written
            bytes_beyond_the_limit_of_a_read_are_an_error
            all_entries_of_all_stages_are_written
            lazily_written_bytes_are_found
        );
        $crate::contract_tests!(@ $backend, removal:
            a_removal_takes_one_key
            a_removal_of_a_folder_takes_nothing
            clearing_takes_all_beneath_and_nothing_beside
            a_cleared_folder_can_be_written_again
            bytes_with_the_tag_are_removed
            bytes_with_another_tag_stay
            a_conditional_removal_of_no_bytes_says_so
        );
        $crate::contract_tests!(@ $backend, restart:
            changes_survive_a_restart
            nothing_that_was_removed_comes_back
        );
        $crate::contract_tests!(@ $backend, scans:
            a_scan_returns_keys_at_any_depth_in_the_order_of_their_bytes
            a_page_begins_after_any_key
            a_scan_tells_the_same_metadata_as_a_look_up
            names_are_listed_once_and_sorted
            names_are_listed_by_what_is_beneath_them
            a_listing_version_differs_after_a_name_comes_or_goes
        );
    };
    ($backend:expr) => {
        $crate::contract_tests!(storage: $backend);
        $crate::contract_tests!(@ $backend, uploads:
            received_bytes_are_stored_under_the_key_and_entries_follow
            the_tail_of_an_upload_is_read_while_it_grows_and_after_its_end
            bytes_are_under_no_key_before_the_end
            a_whole_upload_without_bytes_is_an_object_without_bytes
            a_finished_upload_replaces_what_is_there
            the_digest_is_that_of_all_received_bytes
            acknowledged_bytes_are_those_received
            an_upload_goes_on_after_its_resources_were_released
            an_upload_that_ended_takes_no_bytes
            an_aborted_upload_leaves_nothing
            a_dropped_upload_that_was_not_persisted_leaves_nothing
            an_unknown_session_is_not_resumed
            an_acknowledged_session_is_resumed_after_a_restart
            a_resumed_session_is_finished_with_all_its_bytes
            sessions_left_by_a_process_are_found_and_discarded
            uploads_at_once_do_not_mix
        );
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_behaviour_is_a_test() {
        let list = include_str!("contract.rs");
        let files = [
            include_str!("contract/concurrency.rs"),
            include_str!("contract/creation.rs"),
            include_str!("contract/keys.rs"),
            include_str!("contract/objects.rs"),
            include_str!("contract/removal.rs"),
            include_str!("contract/restart.rs"),
            include_str!("contract/scans.rs"),
            include_str!("contract/uploads.rs"),
        ];
        for line in files.iter().flat_map(|file| file.lines()) {
            let Some(rest) = line.strip_prefix("pub fn ") else { continue };
            let (name, _) = rest.split_once("(backend: Backend)").expect("a public function is a behaviour");
            assert!(list.contains(&format!("            {name}\n")), "{name}");
        }
    }
}
