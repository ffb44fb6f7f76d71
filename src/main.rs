//! The `quinistry` program: parses the command line, runs the command, returns its exit code. All else is in
//! the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    quinistry::cli::main(quinistry::cli::parse())
}
