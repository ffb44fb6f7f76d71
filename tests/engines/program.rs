//! The programs that the tests run: ours, and the clients in the versions that `.ci/tools` installs.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

use crate::support::skip::{self, Need};

/// The program under test.
pub(crate) const QUINISTRY: &str = env!("CARGO_BIN_EXE_quinistry");

/// A program that `.ci/tools` builds, by its full path: several versions of one program live side by side.
///
/// Leaked, a few bytes per test, because a test's needs are stated as constants everywhere else.
pub(crate) fn built(name: &str, version: &str) -> &'static str {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache"))).unwrap_or_default();
    let path = cache.join(format!("quinistry/tools/{name}-{version}/{name}"));
    Box::leak(path.to_str().unwrap().to_owned().into_boxed_str())
}

/// Returns true, and prints what is missing, if this machine lacks root or one of the programs: the test must
/// return.
#[must_use]
pub(crate) fn lacks(programs: &[&'static str]) -> bool {
    let all = ["unshare", "nsenter", "ip", "curl"].iter().chain(programs);
    // Root, to raise a machine of its own.
    let needs: Vec<Need> = [Need::Root].into_iter().chain(all.map(|program| Need::Tool(program))).collect();
    skip::lacks(&needs)
}

/// The digest that the program says its image has.
pub(crate) fn own_digest(layer: &str) -> String {
    own(&["image", "digest", "--layer", layer]).trim().to_owned()
}

/// The standard output of our own program.
pub(crate) fn own(arguments: &[&str]) -> String {
    let output = Command::new(QUINISTRY).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "quinistry {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The sha256 digest of some bytes, as registries write it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut digest = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(digest, "{byte:02x}").unwrap();
    }
    digest
}
