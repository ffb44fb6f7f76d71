//! Compiles the stub of generation 0, `seed/stub/main.rs`, which the library contains as `seed::STUB`.
//!
//! One call of rustc, with the compiler, linker and target of the crate, makes a static executable of a few
//! kilobytes. Its only library is `core`, so that cargo's profiles, features and flags do not apply. Its
//! bytes depend on its sources and the compiler alone: no path, time or environment enters.

use std::env::{self, VarError};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Root of the stub's sources. Relative to the package's folder, in which cargo runs this script, so that the
/// path is the same on every machine.
const ROOT: &str = "seed/stub/main.rs";

const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=stub",
    "--crate-type=bin",
    "--emit=link",
    // The stub has no unwinder.
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    // One unit, so that the order of functions is fixed.
    "-Ccodegen-units=1",
    // With 2 the stub is a fifth larger and hashes no faster, as far as measured: 10.5 MB in 50 ms.
    "-Copt-level=s",
    "-Cstrip=symbols",
    // At a fixed address the stub needs no relocation.
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    // No build ID, no read-only relocations (there is no loader), no padding to whole pages.
    "-Clink-arg=-Wl,--build-id=none",
    "-Clink-arg=-Wl,-z,norelro",
    "-Clink-arg=-Wl,-z,noseparate-code",
];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", Path::new(ROOT).with_file_name("").display());
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the stub of generation zero, {ROOT}, cannot be compiled: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let (rustc, target, folder) = (variable("RUSTC")?, variable("TARGET")?, variable("OUT_DIR")?);
    let mut command = Command::new(rustc);
    command.args(FLAGS).args(["--target", &target]);
    // The linker that cargo is configured to use for the target, as for the crate.
    if let Ok(linker) = variable("RUSTC_LINKER") {
        command.arg(format!("-Clinker={linker}"));
    }
    command.arg(format!("--remap-path-prefix={}=", variable("CARGO_MANIFEST_DIR")?));
    command.arg("-o").arg(Path::new(&folder).join("stub")).arg(ROOT);
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| match error {
        VarError::NotPresent => format!("cargo does not set {name}"),
        VarError::NotUnicode(_) => format!("{name} is not UTF-8"),
    })
}
