//! Removal of several objects by a request for each.

use futures_util::stream::{self, StreamExt as _};

use super::ObjectError;

/// Greatest number of removals of one call that are in flight.
const REMOVALS_AT_ONCE: usize = 16;

/// Removes objects side by side. Returns those that could not be removed.
pub(crate) async fn remove_each<'a, F>(
    keys: &'a [String],
    remove: impl Fn(&'a str) -> F,
) -> Vec<(String, ObjectError)>
where
    F: Future<Output = Result<(), ObjectError>> + 'a,
{
    let removals: Vec<_> = keys
        .iter()
        .map(|key| {
            let removed = remove(key);
            async move { removed.await.err().map(|error| (key.clone(), error)) }
        })
        .collect();
    stream::iter(removals).buffer_unordered(REMOVALS_AT_ONCE).filter_map(std::future::ready).collect().await
}
