//! Variables of the environment over a configuration file.
//!
//! An input is text: a variable on each line, `NAME=VALUE`, where the name is written without `REGISTRY_`. The
//! letters `\n` in a value stand for a line end.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use libfuzzer_sys::fuzz_target;
use quinistry::registry::config::{Source, load, sets_a_key};
use quinistry_fuzz::configuration::{NoFiles, check};

/// File below the variables, with a value of each form.
const FILE: &[u8] = b"version: 0.1
storage: {filesystem: {rootdirectory: /r}, maintenance: {readonly: false}}
http: {addr: ':5000', headers: {X-A: [a]}}
health: {file: [{file: /a}]}
log: {fields: {a: b}}
";

/// Most variables of an input; more find nothing new.
const MAX_VARIABLES: usize = 30;

fuzz_target!(|input: &[u8]| {
    let lines = input.split(|byte| *byte == b'\n').take(MAX_VARIABLES);
    let variables: Vec<(OsString, OsString)> = lines.filter_map(variable).collect();
    for file in [None, Some(Source { name: "config.yml", bytes: FILE })] {
        let loaded = load(file, variables.iter().cloned(), &NoFiles);
        check(&loaded);
        assert!(loaded.set_by_environment.is_sorted() && loaded.service_links.is_sorted());
        // A registry that starts without a file ignores variables that set no key.
        if !sets_a_key(variables.iter().cloned()) && loaded.config.is_some() {
            let unset = load(file, [], &NoFiles);
            assert_eq!(loaded.config, unset.config);
        }
    }
});

fn variable(line: &[u8]) -> Option<(OsString, OsString)> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let mut value = Vec::new();
    let mut rest = &line[at + 1..];
    while let Some((first, after)) = rest.split_first() {
        let is_line_end = *first == b'\\' && after.first() == Some(&b'n');
        value.push(if is_line_end { b'\n' } else { *first });
        rest = if is_line_end { &after[1..] } else { after };
    }
    let name = [b"REGISTRY_", &line[..at]].concat();
    Some((OsString::from_vec(name), OsString::from_vec(value)))
}
