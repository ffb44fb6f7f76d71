//! Running several tasks at once with one result. Pure, except for the tasks.

use std::future::Future;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

/// Number of blobs that `push`, `pull` and `copy` transfer at the same time: enough to hide the round trips
/// of small blobs, and few enough that no registry takes one client for many.
pub const BLOBS_AT_ONCE: usize = 4;

/// Runs `task` for every item, at most `limit` at once, and returns the results in the order of the items.
///
/// Of several failures that of the first item is returned, even if a later item fails earlier: tasks that
/// began before it are waited for, tasks that began after it are dropped, and no more tasks begin.
pub(super) async fn ordered<I, T, E, F>(
    items: impl IntoIterator<Item = I>,
    limit: usize,
    mut task: impl FnMut(I) -> F,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = items.into_iter().enumerate();
    let mut running = FuturesUnordered::new();
    let mut done = Vec::new();
    let mut failed: Option<(usize, E)> = None;
    loop {
        while failed.is_none() && running.len() < limit {
            let Some((number, item)) = waiting.next() else { break };
            let future = task(item);
            running.push(async move { (number, future.await) });
        }
        match running.next().await {
            None => break,
            Some((number, Ok(result))) => done.push((number, result)),
            Some((number, Err(error))) => {
                if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    failed = Some((number, error));
                }
            }
        }
        if let Some((first, _)) = &failed {
            // Items begin in their order, so all that are before it have begun.
            let settled = done.iter().filter(|(number, _)| number < first).count();
            if settled == *first {
                break;
            }
        }
    }
    if let Some((_, error)) = failed {
        return Err(error);
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn as_many_run_at_once_as_are_allowed_and_no_more() {
        let (barrier, running) = (Barrier::new(3), Cell::new(0));
        let results = ordered(0..9, 3, async |number: usize| {
            running.set(running.get() + 1);
            assert!(running.get() <= 3);
            // Passed only if three are here at once.
            barrier.wait().await;
            running.set(running.get() - 1);
            Ok::<_, ()>(number)
        });
        assert_eq!(results.await.unwrap(), (0..9).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_failure_of_the_first_item_is_told_whichever_comes_first() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (sender, receiver) = (Cell::new(Some(sender)), Cell::new(Some(receiver)));
        let begun = Cell::new(0);
        let result = ordered(0..9, 3, async |number: usize| {
            begun.set(begun.get() + 1);
            match number {
                0 => Ok(()),
                1 => {
                    receiver.take().unwrap().await.unwrap();
                    Err(number)
                }
                2 => {
                    sender.take().unwrap().send(()).unwrap();
                    Err(number)
                }
                // Waited for by none.
                _ => std::future::pending().await,
            }
        });
        assert_eq!(result.await, Err(1));
        assert!(begun.get() <= 4, "nothing begins after a failure");
    }
}
