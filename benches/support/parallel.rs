//! The same on several threads at once.

use std::thread;
use std::time::{Duration, Instant};

/// The sum of what `work` gives, per second until the deadline that each is given: `work` is done again and again until
/// then, beginning with what `prepare` gives on each thread. What is not done by then is cut off by `work` itself, or
/// waited for and counted with its time.
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
