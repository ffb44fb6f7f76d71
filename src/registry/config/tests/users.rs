//! Users and keys.

use super::{findings, with};

#[test]
fn users_and_keys_are_files() {
    let users =
        with("auth: {htpasswd: {realm: My Registry, path: /auth}}\nquinistry: {keys: {file: /keys}}").users;
    let htpasswd = users.htpasswd.unwrap();
    assert_eq!((htpasswd.realm.as_str(), htpasswd.path.to_str()), ("My Registry", Some("/auth")));
    assert_eq!(users.keys_file.unwrap().to_str(), Some("/keys"));
    assert_eq!(with("").users, super::super::UsersConfig::default());
}

#[test]
fn empty_values_and_realms_that_no_header_can_hold_are_errors() {
    for (text, expected) in [
        ("auth: {htpasswd: {realm: '', path: /a}}", "auth.htpasswd.realm: must not be empty"),
        ("auth: {htpasswd: {realm: a, path: ''}}", "auth.htpasswd.path: must not be empty"),
        (
            "auth: {htpasswd: {realm: \"a\\nb\", path: /a}}",
            "auth.htpasswd.realm: must consist of printable ASCII",
        ),
        (
            "auth: {htpasswd: {realm: \u{e9}, path: /a}}",
            "auth.htpasswd.realm: must consist of printable ASCII",
        ),
        (
            "auth: {htpasswd: {realm: a, path: /a}}\nquinistry: {keys: {file: ''}}",
            "quinistry.keys.file: must not be empty",
        ),
    ] {
        let found = findings(text);
        assert!(found.iter().any(|line| line.contains(expected)), "{text}: {found:?}");
    }
}

#[test]
fn keys_without_users_are_an_error() {
    for auth in ["", "auth: none\n"] {
        let found = findings(&format!("{auth}quinistry: {{keys: {{file: /keys}}}}"));
        assert!(found.iter().any(|line| line.contains("keys need users, and there are none")), "{found:?}");
    }
}
