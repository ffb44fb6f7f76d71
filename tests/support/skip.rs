//! Tests that need more than a toolchain: skipped where that is missing, unless all of it is promised.

use std::env;

/// Requirement of a test.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// The rights of uid 0.
    Root,
    /// A program in `PATH`.
    Tool(&'static str),
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root(),
            Self::Tool(name) => env::var_os("PATH")
                .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(name).is_file())),
        }
    }
}

/// Returns true, and prints what is missing, if the test must be skipped for want of something.
#[must_use]
pub fn lacks(needs: &[Need]) -> bool {
    let unmet: Vec<Need> = needs.iter().copied().filter(|need| !need.is_met()).collect();
    if !unmet.is_empty() {
        missing(&format!("{unmet:?}"));
    }
    !unmet.is_empty()
}

/// Says that a test is skipped for want of `what`. With `QUINISTRY_TESTS_STRICT`, as in CI, where everything
/// is promised to be there, it fails instead, so that nothing is skipped there unseen.
pub fn missing(what: &str) {
    let strict = env::var_os("QUINISTRY_TESTS_STRICT").is_some();
    assert!(!strict, "QUINISTRY_TESTS_STRICT is set, and this machine lacks {what}");
    println!("skipped: this test needs {what}");
}
