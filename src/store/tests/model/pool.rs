//! Threads that play the actors of one schedule after the other: to start a thread takes longer than a
//! schedule.

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle, Thread};

type Job = Box<dyn FnOnce() + Send>;

/// Channel of a thread's jobs, and the thread; both `None` once the pool ends.
type Worker = (Option<Sender<Job>>, Option<JoinHandle<()>>);

/// Threads that wait for jobs. A dropped pool ends them.
pub(super) struct Pool {
    workers: Vec<Worker>,
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        let worker = |index| {
            let (sender, jobs) = channel::<Job>();
            let run = move || jobs.iter().for_each(|job| job());
            let thread = thread::Builder::new().name(format!("actor {index}")).spawn(run);
            (Some(sender), Some(thread.expect("the system has threads")))
        };
        Self { workers: (0..size).map(worker).collect() }
    }

    /// Returns the threads, in the order of their numbers.
    pub(super) fn threads(&self) -> Vec<Thread> {
        let handles = self.workers.iter().filter_map(|(_, handle)| handle.as_ref());
        handles.map(|handle| handle.thread().clone()).collect()
    }

    /// Runs a job on the thread of a number. The job must not panic.
    pub(super) fn run(&self, index: usize, job: Job) {
        let sender = self.workers[index].0.as_ref().expect("the pool is not dropped");
        sender.send(job).expect("the thread of the pool lives");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (sender, _) in &mut self.workers {
            drop(sender.take());
        }
        for (_, handle) in &mut self.workers {
            if let Some(handle) = handle.take() {
                drop(handle.join());
            }
        }
    }
}
