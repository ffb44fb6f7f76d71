//! Failpoints: points at which a test aborts the process, or makes a system call fail, to check that no data
//! is lost. Only in debug builds, and with the feature `failpoints`.
//!
//! `QUINISTRY_FAILPOINT=name` aborts when the point is passed for the first time, `name:3` for the third.
//! `name=28` makes the call there fail with that error number, from then on. `name=stop` stops the process there once
//! (SIGSTOP), until another one lets it go on (SIGCONT).

use std::io;

/// Passes a point: continues, aborts, stops the process or returns an error, as the test has set.
pub fn pass(name: &'static str) -> io::Result<()> {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    return active::pass(name);
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    {
        let _ = name;
        Ok(())
    }
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod active {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    /// Time in which the signal reaches this thread, which another one may receive. It passes while the process is
    /// stopped.
    const STOP_TIME: Duration = Duration::from_secs(1);

    struct Point {
        name: String,
        /// Number of passages until the action, that of the action included; 0 after it.
        times: AtomicU32,
        action: Action,
    }

    enum Action {
        Abort,
        /// Stops the process, once.
        Stop,
        /// Fails with an error number, from then on.
        Fail(i32),
    }

    static POINT: OnceLock<Option<Point>> = OnceLock::new();

    pub(super) fn pass(name: &'static str) -> io::Result<()> {
        #[cfg(test)]
        super::once::pass(name)?;
        let point = POINT.get_or_init(|| std::env::var("QUINISTRY_FAILPOINT").ok().map(|text| parse(&text)));
        let Some(point) = point.as_ref().filter(|point| point.name == name) else { return Ok(()) };
        let left = point
            .times
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)))
            .unwrap_or_default();
        match point.action {
            _ if left > 1 => Ok(()),
            Action::Abort => std::process::abort(),
            Action::Fail(error) => Err(io::Error::from_raw_os_error(error)),
            Action::Stop if left == 0 => Ok(()),
            Action::Stop => {
                kill_process(getpid(), Signal::STOP)?;
                std::thread::sleep(STOP_TIME);
                Ok(())
            }
        }
    }

    fn parse(text: &str) -> Point {
        let (text, action) = match text.split_once('=') {
            Some((text, "stop")) => (text, Action::Stop),
            Some((text, error)) => (text, error.parse().map_or(Action::Abort, Action::Fail)),
            None => (text, Action::Abort),
        };
        let (name, times) = match text.split_once(':') {
            Some((name, times)) => (name, times.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Point { name: name.into(), times: times.into(), action }
    }
}

/// One failure on the current thread, for tests of the time after a failure.
#[cfg(test)]
pub(super) mod once {
    use std::cell::RefCell;
    use std::io;

    struct Armed {
        name: &'static str,
        /// Passages before the failure; `None` once it has happened.
        left: Option<u32>,
        error: i32,
    }

    thread_local! {
        static ARMED: RefCell<Option<Armed>> = const { RefCell::new(None) };
    }

    /// Runs `work`, within which one passage of the point fails; returns whether it was reached, and the
    /// result.
    pub(crate) fn failing<T>(
        name: &'static str,
        passage: u32,
        error: i32,
        work: impl FnOnce() -> T,
    ) -> (bool, T) {
        ARMED.set(Some(Armed { name, left: Some(passage - 1), error }));
        let result = work();
        (ARMED.take().is_some_and(|armed| armed.left.is_none()), result)
    }

    pub(super) fn pass(name: &'static str) -> io::Result<()> {
        ARMED.with_borrow_mut(|armed| {
            let Some(armed) = armed.as_mut().filter(|armed| armed.name == name) else { return Ok(()) };
            let Some(left) = armed.left else { return Ok(()) };
            armed.left = left.checked_sub(1);
            if armed.left.is_some() { Ok(()) } else { Err(io::Error::from_raw_os_error(armed.error)) }
        })
    }
}
