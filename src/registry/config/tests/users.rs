//! Users and keys.

use std::collections::BTreeMap;

use super::{Files, findings, lines, load_text, with};

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

const FILES: &str = "version: 0.1
storage: inmemory
auth: {htpasswd: {realm: a, path: /users}}
quinistry: {keys: {file: /keys}}
";

/// Hash of `abc`, from the test vectors of jBCrypt, with a usual cost.
const HASH: &str = "$2a$10$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

/// Returns the findings about files with modes and contents, and whether the configuration is accepted.
fn checked(users: Option<(u32, &str)>, keys: Option<(u32, &str)>) -> (Vec<String>, bool) {
    let files = [("/users", users), ("/keys", keys)].into_iter();
    let files =
        files.filter_map(|(path, file)| file.map(|(mode, text)| (path, (mode, text.as_bytes().to_vec()))));
    let mut loaded = load_text(FILES, &[]);
    loaded.check_user_files(&Files(files.collect::<BTreeMap<_, _>>()));
    (lines(&loaded), loaded.config.is_some())
}

#[test]
fn files_that_are_as_they_must_be_have_no_findings() {
    assert_eq!(checked(Some((0o600, &format!("a:{HASH}\n"))), Some((0o600, ""))), (Vec::new(), true));
}

#[test]
fn files_that_do_not_exist_are_noted() {
    let (found, is_accepted) = checked(None, None);
    let expected = [
        "c.yml:3:35: note: auth.htpasswd.path: /users does not exist, and is created with user docker and a random \
         password when the registry starts",
        "c.yml:4:26: note: quinistry.keys.file: /keys does not exist, and has no keys yet; `quinistry key add` creates it",
    ];
    assert_eq!((found, is_accepted), (expected.map(str::to_owned).to_vec(), true));
}

#[test]
fn findings_about_users_have_their_line() {
    let text = format!("a:{HASH}\nb:{}\nc:$apr1$x$y\n", HASH.replace("$10$", "$31$"));
    let (found, is_accepted) = checked(Some((0o602, &text)), Some((0o600, "")));
    assert!(!is_accepted);
    assert!(found[0].starts_with("/users:2:1: error: auth.htpasswd.path: user b cannot log in"), "{found:?}");
    assert!(
        found[1].starts_with("/users:3:1: warning: auth.htpasswd.path: user c cannot log in"),
        "{found:?}"
    );
    assert!(found[2].contains("every user of the machine can write /users"), "{found:?}");
    let (found, is_accepted) = checked(Some((0o600, "\nsecret\n")), Some((0o600, "")));
    let expected = "/users:2:1: error: auth.htpasswd.path: has no colon between user name and hash";
    assert_eq!((found, is_accepted), (vec![expected.to_owned()], false));
}

#[test]
fn row_99_keys_that_every_user_can_read_or_write_are_told() {
    let users = format!("a:{HASH}\n");
    let (found, is_accepted) = checked(Some((0o600, &users)), Some((0o644, "")));
    assert!(
        is_accepted
            && found[0]
                .ends_with("warning: quinistry.keys.file: every user can read /keys; run `chmod 600` on it"),
        "{found:?}"
    );
    let (found, is_accepted) = checked(Some((0o600, &users)), Some((0o666, "")));
    assert!(
        !is_accepted && found[0].contains("error: quinistry.keys.file: every user can write /keys"),
        "{found:?}"
    );
    let key = r#"{"id":"0123456789ab","sha256":"SHA","owner":"nemo","created":"2026-01-01T00:00:00Z"}"#;
    let (found, is_accepted) =
        checked(Some((0o600, &users)), Some((0o600, &key.replace("SHA", &"00".repeat(32)))));
    assert!(is_accepted && found[0].contains("keys of user nemo are not accepted"), "{found:?}");
    let (found, is_accepted) = checked(Some((0o600, &users)), Some((0o600, key)));
    assert!(
        !is_accepted && found[0].starts_with("/keys:1:1: error: quinistry.keys.file: sha256"),
        "{found:?}"
    );
}
