//! Work that several threads share.

use std::num::NonZeroUsize;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Gives each item of a source to one of `jobs` threads. After an error, no more items are taken; returns the
/// first one.
pub(super) fn share_out<T: Send, E: Send>(
    jobs: NonZeroUsize,
    mut source: impl FnMut() -> Result<Option<T>, E>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    // An item for each thread waits, so that no thread does.
    let (sender, receiver) = sync_channel::<T>(jobs.get());
    let receiver = Mutex::new(receiver);
    let failure = Mutex::new(None);
    let failed = |error: E| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    };
    let has_failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let (receiver, work) = (&receiver, &work);
    let run = || {
        loop {
            let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(item) = next else { return };
            // After a failure, the items that wait are left.
            if !has_failed()
                && let Err(error) = work(item)
            {
                failed(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.get() {
            scope.spawn(run);
        }
        while !has_failed() {
            match source() {
                Ok(Some(item)) => sender.send(item).expect("the threads receive until the sender is dropped"),
                Ok(None) => break,
                Err(error) => {
                    failed(error);
                    break;
                }
            }
        }
        drop(sender);
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const FOUR: NonZeroUsize = NonZeroUsize::new(4).unwrap();

    #[test]
    fn all_items_are_worked_on_side_by_side() {
        let (mut items, sum, together) = (1..=8_u32, AtomicU32::new(0), Barrier::new(4));
        let shared = share_out::<u32, ()>(
            FOUR,
            || Ok(items.next()),
            |item| {
                together.wait();
                sum.fetch_add(item, Ordering::Relaxed);
                Ok(())
            },
        );
        assert_eq!((shared, sum.into_inner()), (Ok(()), 36));
    }

    #[test]
    fn an_error_of_the_source_or_of_the_work_ends_all() {
        let mut items = 1..;
        let failed =
            share_out(FOUR, || Ok(items.next()), |item| if item == 100 { Err("work") } else { Ok(()) });
        assert_eq!(failed, Err("work"));
        assert_eq!(share_out::<(), _>(FOUR, || Err("source"), |()| Ok(())), Err("source"));
    }
}
