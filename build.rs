//! Has the executable linked with packed relocations, where what starts it can unpack them.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if unpacks_relocations() {
        // 470 kB of 12.2 MB: a position-independent executable is full of addresses that are to be moved by the same.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the C library of the target, which is linked into the executable and starts it, knows packed relocations: glibc
/// does from 2.36 on, and an older one would crash without a word. Of another machine's nothing is known.
fn unpacks_relocations() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_ENV", "gnu") || env::var("TARGET") != env::var("HOST") {
        return false;
    }
    let Ok(printed) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let printed = String::from_utf8_lossy(&printed.stdout);
    let version = printed.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        >= Some((2_u32, 36_u32))
}
