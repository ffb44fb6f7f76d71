//! Scans of a folder: flat lists, whose order is that of the bytes of the keys.

use quinistry_store::{Key, ScanPage, StorageError};

use super::{Bucket, failed, meta};
use crate::ListingQuery;

impl Bucket {
    /// Returns a page of keys. Objects whose names are not those of keys are left out: consoles create some that end
    /// in a slash.
    pub(super) async fn scan_folder(
        &self,
        folder: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<ScanPage, StorageError> {
        let prefix = format!("{folder}/");
        let mut after = after.map(Key::as_str).filter(|after| *after >= &prefix[..]).map(str::to_owned);
        loop {
            let query = ListingQuery { prefix: &prefix, after: after.as_deref(), limit };
            let listing = self.objects().list(query).await.map_err(failed("list", folder))?;
            after = listing.entries.last().map(|(path, _)| path.clone()).filter(|_| listing.is_truncated);
            let entries: Vec<_> = listing
                .entries
                .into_iter()
                .filter_map(|(path, found)| Some((Key::of_path(path)?, meta(&found))))
                .collect();
            if !entries.is_empty() || after.is_none() {
                let next = entries.last().map(|(key, _)| key.clone()).filter(|_| after.is_some());
                return Ok(ScanPage { entries, next });
            }
        }
    }
}
