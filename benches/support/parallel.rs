//! Repeated work on several threads at once.

use std::thread;
use std::time::{Duration, Instant};

/// Returns the sum of the results of `work` per second. Each thread calls `work` again and again until the
/// deadline, with the value that `prepare` returned for the thread. `work` cuts itself off at the deadline,
/// or is waited for and counted with its time.
pub(crate) fn rate<T>(
    threads: usize,
    time: Duration,
    prepare: impl Fn() -> T + Sync,
    work: impl Fn(&mut T, Instant) -> usize + Sync,
) -> f64 {
    let barrier = std::sync::Barrier::new(threads);
    let one = || {
        let mut own = prepare();
        barrier.wait();
        let begin = Instant::now();
        let deadline = begin + time;
        let mut sum = 0;
        while Instant::now() < deadline {
            sum += work(&mut own, deadline);
        }
        (sum, begin.elapsed())
    };
    let done: Vec<(usize, Duration)> = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let total: usize = done.iter().map(|(sum, _)| sum).sum();
    let longest = done.iter().map(|(_, time)| *time).max().unwrap_or(time);
    total as f64 / longest.as_secs_f64()
}
