//! Doors that a mistake must not open: deletion, access, and a registry that was not asked for.

use super::{SMALLEST, accepted, environment, lines, load_text, load_variables};
use crate::config::{Severity, sets_a_key};

#[test]
fn quoted_text_does_not_turn_deletion_on() {
    let message =
        "error: storage.delete.enabled: is text, and not a boolean; write true or false without quotes";
    for value in ["\"true\"", "'false'", "!!str yes"] {
        let text = format!("version: 0.1\nstorage: {{inmemory: , delete: {{enabled: {value}}}}}\n");
        let loaded = load_text(&text, &[]);
        assert!(loaded.config.is_none() && loaded.storage.is_none(), "{value}");
        assert!(lines(&loaded)[0].ends_with(message), "{:?}", lines(&loaded));
        let loaded = load_variables(&[("REGISTRY_STORAGE_DELETE_ENABLED", value)]);
        assert_eq!(lines(&loaded), [format!("REGISTRY_STORAGE_DELETE_ENABLED: {message}")]);
    }
    let text = "version: 0.1\nstorage: {inmemory: , maintenance: {readonly: \"true\"}}\n";
    assert!(accepted(&load_text(text, &[])).storage.is_read_only);
}
