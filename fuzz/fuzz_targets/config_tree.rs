//! Configuration files: YAML, the table of keys, and the text of the configuration in effect.
//!
//! An input is a file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quinistry::registry::config::{Source, load};
use quinistry_fuzz::configuration::{NoFiles, check};

fuzz_target!(|input: &[u8]| {
    let loaded = load(Some(Source { name: "config.yml", bytes: input }), [], &NoFiles);
    check(&loaded);
    assert!(loaded.set_by_environment.is_empty() && loaded.service_links.is_empty());
});
