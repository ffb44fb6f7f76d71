//! Points at which a test has the process die, or a system call fail: to see that nothing is lost. In debug builds, and
//! with the feature `failpoints`; elsewhere there are none.
//!
//! `QUINISTRY_FAILPOINT=name` aborts when the point is passed for the first time, `name:3` for the third. `name=28` has the
//! call there fail with that error number, from then on.

use std::io;

/// Passes the point.
pub(super) fn pass(name: &'static str) -> io::Result<()> {
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
        /// How often it is passed before anything happens.
        times: AtomicU32,
        /// The error number; none to abort.
        error: Option<i32>,
    }

    static POINT: OnceLock<Option<Point>> = OnceLock::new();

    pub(super) fn pass(name: &'static str) -> io::Result<()> {
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
