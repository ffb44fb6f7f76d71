//! Copying of records: the times of pulls, which retention needs, and the deletions of the past.

use super::listing::Pairs;
use super::pass::Pass;
use crate::layout::records;
use crate::storage::StorageError;

/// Longest record that is copied, in bytes.
const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// Copies the records that the target lacks. Those of equal name are replaced where the target is a copy of
/// the source.
pub(super) fn copy_all(pass: &Pass<'_>) -> Result<(), StorageError> {
    for folder in records() {
        let mut pairs = Pairs::new(pass.from, pass.to, &folder, None);
        while let Some(pair) = pairs.next()? {
            let is_kept = pair.to.is_some() && !pass.wanted.overwrites;
            if pair.from.is_none() || pair.has_equal_lengths() || is_kept {
                continue;
            }
            let key = [pair.key];
            let read = pass.read(&key, MAX_RECORD_BYTES)?;
            if let Some(Some(bytes)) = read.into_iter().next() {
                let [key] = key;
                pass.write(&[&[(key, &bytes)]])?;
                pass.report().others += 1;
            }
        }
    }
    Ok(())
}
