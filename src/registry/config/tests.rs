//! Tests by the text of files and variables.

mod access;
mod buckets;
mod documentation;
mod files;
mod gc;
mod health;
mod keys;
mod limits;
mod locks;
mod notifications;
mod parts;
mod retention;
mod samples;
mod secrets;
mod shown;
mod tls;
mod tokens;
mod upstreams;
mod users;
mod values;
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::{Config, Loaded, ReadFile, SecretFile, Source, load};

/// Smallest configuration that is accepted.
const SMALLEST: &str = "version: 0.1\nstorage: inmemory\n";

/// Files with their permission bits and content.
#[derive(Default)]
struct Files(BTreeMap<&'static str, (u32, Vec<u8>)>);

impl ReadFile for Files {
    fn read(&self, path: &Path, limit: usize) -> io::Result<SecretFile> {
        let file = path.to_str().and_then(|path| self.0.get(path));
        let (mode, bytes) = file.ok_or(io::ErrorKind::NotFound)?;
        if bytes.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(SecretFile { bytes: bytes.clone(), mode: Some(*mode) })
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load_text(text: &str, variables: &[(&str, &str)]) -> Loaded {
    load_bytes(text.as_bytes(), variables)
}

fn load_bytes(bytes: &[u8], variables: &[(&str, &str)]) -> Loaded {
    load(Some(Source { name: "c.yml", bytes }), environment(variables), &Files::default())
}

fn load_variables(variables: &[(&str, &str)]) -> Loaded {
    load(None, environment(variables), &Files::default())
}

/// Returns the findings, one on each line.
fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

fn accepted(loaded: &Loaded) -> &Config {
    loaded.config.as_ref().unwrap_or_else(|| panic!("{}", lines(loaded).join("\n")))
}

/// Returns the configuration of the smallest file with more text.
fn with(more: &str) -> Config {
    accepted(&load_text(&format!("{SMALLEST}{more}"), &[])).clone()
}

/// Returns the findings of the smallest file with more text.
fn findings(more: &str) -> Vec<String> {
    lines(&load_text(&format!("{SMALLEST}{more}"), &[]))
}
