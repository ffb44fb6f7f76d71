//! Has the executable linked to be small: with packed relocations and with identical functions folded, where
//! the tools can do so.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if unpacks_relocations() {
        // 470 kB of 12.2 MB: a position-independent executable is full of addresses that are to be moved by the same.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    if is_linked_by_lld() {
        // 145 kB of 15.2 MB: instances of one generic function for different types often have the same code.
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}

/// Returns true if the C library of the target, which is linked into the executable and starts it, knows packed
/// relocations. glibc does from 2.36 on; an older one would crash without a message. The C library of another machine
/// is not known.
fn unpacks_relocations() -> bool {
    if !is_env("CARGO_CFG_TARGET_ENV", "gnu") || env::var("TARGET") != env::var("HOST") {
        return false;
    }
    let Ok(printed) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let printed = String::from_utf8_lossy(&printed.stdout);
    let version = printed.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        >= Some((2_u32, 36_u32))
}

/// Returns true if rustc links with LLD, which folds functions; GNU ld refuses the flag. On Linux for `x86_64`,
/// rustc uses the LLD that it comes with, unless a linker is configured. A distribution's rustc may come without
/// LLD.
fn is_linked_by_lld() -> bool {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    if !is_env("TARGET", TARGET) || env::var_os("RUSTC_LINKER").is_some() {
        return false;
    }
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(printed) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&printed.stdout);
    Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("bin/gcc-ld/ld.lld").exists()
}

fn is_env(name: &str, value: &str) -> bool {
    env::var(name).is_ok_and(|found| found == value)
}
