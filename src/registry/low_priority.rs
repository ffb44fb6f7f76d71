//! Work in the background that gives way to requests.

use std::thread;

/// Increase of the nice value: a quarter of the share of a thread that answers a request, on a processor that both want.
/// Not the lowest, since pushes of content that is being removed wait for the end of the removal.
const NICE_INCREASE: i32 = 6;

/// Runs work on a thread of lower priority, and waits for its end. Threads that the work starts inherit the priority.
///
/// The thread is a new one, because a process without privileges cannot raise the priority again that it has lowered.
/// If the system refuses the priority, the work keeps that of the caller.
pub(crate) fn at_low_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let lowered = move || {
            if let Err(error) = rustix::process::nice(NICE_INCREASE) {
                tracing::debug!(%error, "cannot lower the priority of work in the background");
            }
            work()
        };
        // A panic is the caller's, as if it had called the work itself.
        scope.spawn(lowered).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn work_and_the_threads_that_it_starts_have_a_lower_priority_and_the_caller_keeps_its_own() {
        let priority = || getpriority_process(None).unwrap();
        let before = priority();
        let [own, inherited] =
            at_low_priority(|| [priority(), thread::scope(|scope| scope.spawn(priority).join().unwrap())]);
        // No value is greater than 19.
        assert_eq!([own, inherited], [(before + NICE_INCREASE).min(19); 2]);
        assert_eq!(priority(), before);
    }

    #[test]
    fn a_panic_of_the_work_reaches_the_caller() {
        let caught = std::panic::catch_unwind(|| at_low_priority(|| std::panic::panic_any(7)));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7));
    }
}
