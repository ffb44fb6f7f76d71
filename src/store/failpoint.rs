//! Failpoints: points at which a test aborts the process, or makes a system call fail, to check that no data
//! is lost. Only in debug builds, and with the feature `failpoints`.
//!
//! `QUINISTRY_FAILPOINT=name` aborts when the point is passed for the first time, `name:3` for the third.
//! `name=28` makes the call there fail with that error number, from then on.

use std::io;

/// Passes a point: continues, aborts or returns an error, as the test has set.
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

    struct Point {
        name: String,
        /// Number of passages until the failure, the failing one included.
        times: AtomicU32,
        /// Error number; `None` to abort.
        error: Option<i32>,
    }

    static POINT: OnceLock<Option<Point>> = OnceLock::new();

    pub(super) fn pass(name: &'static str) -> io::Result<()> {
        #[cfg(test)]
        super::once::pass(name)?;
        let point = POINT.get_or_init(|| std::env::var("QUINISTRY_FAILPOINT").ok().map(|text| parse(&text)));
        let Some(point) = point.as_ref().filter(|point| point.name == name) else { return Ok(()) };
        let due =
            point.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
        if due.is_ok_and(|left| left > 1) {
            return Ok(());
        }
        match point.error {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => std::process::abort(),
        }
    }

    fn parse(text: &str) -> Point {
        let (text, error) = match text.split_once('=') {
            Some((text, error)) => (text, error.parse().ok()),
            None => (text, None),
        };
        let (name, times) = match text.split_once(':') {
            Some((name, times)) => (name, times.parse().unwrap_or(1)),
            None => (text, 1),
        };
        Point { name: name.into(), times: times.into(), error }
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
