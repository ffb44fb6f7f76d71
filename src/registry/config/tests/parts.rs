//! Parts of a configuration: the one that a collection needs, and those that a reload cannot change.

use super::{lines, load_text, load_variables, with};
use crate::config::{Diagnostic, StorageLocation};

#[test]
fn the_storage_is_known_although_other_parts_are_refused() {
    let storage = "version: 0.1\nstorage: {filesystem: {rootdirectory: /r}}\n";
    for other in [
        "auth: {htpasswd: {realm: a}}",
        "http: {tls: {certificate: /c}}",
        "proxy: {remoteurl: 'https://user:password@registry-1.docker.io'}",
        "log: {level: loud}",
        "notifications: {endpoints: [{name: a}]}",
    ] {
        let loaded = load_text(&format!("{storage}{other}\n"), &[]);
        assert!(loaded.config.is_none(), "{other}");
        let location = loaded.storage.as_ref().map(|storage| &storage.location);
        assert_eq!(location, Some(&StorageLocation::Folder("/r".into())), "{:?}", lines(&loaded));
    }
    let loaded = load_text(storage, &[("REGISTRY_AUTH_HTPASWD", "x")]);
    assert!(loaded.config.is_none() && loaded.storage.is_some(), "{:?}", lines(&loaded));
    let loaded = load_text(storage, &[("REGISTRY_STORAGE_FILESYSTEM_ROOTDIR", "/x"), ("REGISTRY_URL", "x")]);
    let about: Vec<_> = loaded.diagnostics.iter().map(Diagnostic::concerns_storage).collect();
    assert_eq!(about, [true, false], "{:?}", lines(&loaded));
}

#[test]
fn the_storage_is_unknown_with_an_error_in_it_or_in_the_whole_file() {
    for text in [
        "version: 0.1\nstorage: {s3: {bucket: a}}\n",
        "version: 0.1\nstorage: {filesystem: {rootdirectory: [a]}}\n",
        "version: 0.1\nstorage: {filesystem: , inmemory: }\n",
        "version: 0.1\n",
        "storage: inmemory\n",
        "version: 0.1\nstorage: {",
        "",
    ] {
        assert_eq!(load_text(text, &[]).storage, None, "{text}");
    }
    let unknown: Vec<String> = (0..1000).map(|number| format!("auth{number}: {{}}")).collect();
    let text = format!("version: 0.1\n{}\nauth: {{}}\nstorage: {{s3: {{}}}}\n", unknown.join("\n"));
    assert_eq!(load_text(&text, &[]).storage, None);
    assert_eq!(load_variables(&[("REGISTRY_STORAGE", "s3")]).storage, None);
}

#[test]
fn keys_that_a_reload_cannot_change_are_named() {
    let change = |before: &str, after: &str| with(before).keys_that_need_a_restart(&with(after));
    assert_eq!(change("", "http: {draintimeout: 5s}\n"), ["http.draintimeout"]);
    assert_eq!(change("", "http: {prefix: /a/}\n"), ["http.prefix"]);
    assert_eq!(change("", "http: {addr: ':1'}\n"), ["http.addr"]);
    assert_eq!(
        change("http: {addr: 'localhost:1'}\n", "http: {addr: /q.sock, net: unix}\n"),
        ["http.addr", "http.net"]
    );
    assert_eq!(change("", "http: {tls: {certificate: /c, key: /k}}\n"), ["http.tls"]);
    let other = "http: {tls: {certificate: /d, key: /k}}\n";
    assert_eq!(change("http: {tls: {certificate: /c, key: /k}}\n", other), [""; 0]);
    assert_eq!(change("", "log: {level: error}\nhttp: {headers: {A: [b]}}\n"), [""; 0]);
}
