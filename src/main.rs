//! The `quinistry` program: parse, dispatch, exit code. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    quinistry::cli::main(quinistry::cli::parse())
}
