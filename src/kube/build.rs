//! Compiles the stub of generation zero, `seed/stub/main.rs`, which the library carries as `seed::STUB`.
//!
//! With the same compiler and linker as the crate, for the same target, by one call of rustc: a static executable of a few
//! kilobytes without any library but `core`, so cargo's profiles, features and flags have nothing to say about it. A
//! function of its sources and of the compiler: no path of the machine, time or environment enters.

use std::env::{self, VarError};
use std::path::Path;
use std::process::{Command, ExitCode};

/// The root of the stub, from the package's folder, where cargo runs this: a path that is the same everywhere.
const ROOT: &str = "seed/stub/main.rs";

const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=stub",
    "--crate-type=bin",
    "--emit=link",
    // Nobody unwinds it.
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    // Of one unit there is one order.
    "-Ccodegen-units=1",
    // At 2 it is a fifth larger, and hashes no faster than one can measure: 10.5 MB in 50 ms.
    "-Copt-level=s",
    "-Cstrip=symbols",
    // At a fixed address it needs neither a loader nor code of its own to find itself.
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    // No hash of what was linked, no pages made read-only by a loader that is not there, no padding to whole pages.
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
    // The linker that is configured for the target, which is the one that the crate is linked with.
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
