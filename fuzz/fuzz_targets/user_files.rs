//! Files of users and of API keys: the parsers, and the changes of `quinistry user` and `quinistry key`.
//!
//! The first line of an input is the name of a user, the rest a file, which is tried as one of each kind. A change
//! must keep all other lines byte for byte, and an accepted file must be accepted after it.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use quinistry::registry::auth::api_keys::{KeyRecord, add_record, parse as parse_keys, remove_record};
use quinistry::registry::auth::check_user_name;
use quinistry::registry::auth::htpasswd::{BcryptHash, Users, parse as parse_users, remove_user, set_user};

/// Hash of no known password.
static HASH: LazyLock<BcryptHash> = LazyLock::new(|| {
    let text = "$2y$10$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";
    BcryptHash::parse(text).expect("the hash is bcrypt's")
});

/// Most findings about a file, with the one that counts the others.
const MAX_FINDINGS: usize = 101;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (name, file) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(name) = std::str::from_utf8(name) else { return };
    try_users(name, file);
    try_keys(name, file);
});

fn try_users(name: &str, file: &[u8]) {
    let former = parse_users(file);
    if let Ok((users, findings)) = &former {
        assert!(findings.len() <= MAX_FINDINGS && findings.is_sorted_by_key(|found| found.line));
        let lines = file.split(|byte| *byte == b'\n').count();
        assert!(users.len() <= lines && findings.iter().all(|found| found.line as usize <= lines));
    }
    if check_user_name(name).is_err() {
        return;
    }
    let others = lines_but(file, |line| is_of_user(line, name));
    let is_there = others.len() < file.len();

    let removed = remove_user(file, name);
    assert_eq!(removed.as_deref(), is_there.then_some(&*others));
    let (set, was_there) = set_user(file, name, &HASH);
    assert_eq!(was_there, is_there);
    if is_there {
        assert_eq!(lines_but(&set, |line| is_of_user(line, name)), others);
    } else {
        assert_eq!(set, with_line(file, format!("{name}:{}", *HASH).as_bytes()));
    }
    assert_eq!(
        set_user(&set, name, &HASH),
        (set.clone(), true),
        "a change that is made again changes nothing"
    );
    assert!(remove_user(&set, name).is_some());

    let Ok((former, _)) = former else { return };
    let mut expected = hashes(&former);
    if let Some(removed) = removed {
        expected.remove(name);
        assert_eq!(hashes(&parse_users(&removed).expect("the file was accepted before").0), expected);
    }
    expected.insert(name, Some(&HASH));
    assert_eq!(hashes(&parse_users(&set).expect("the file was accepted before").0), expected);
}

/// Returns the users with their hashes.
fn hashes(users: &Users) -> BTreeMap<&str, Option<&BcryptHash>> {
    users.sorted().into_iter().map(|(name, line)| (name, line.hash.as_ref())).collect()
}

/// Returns true if a line of a password file is that of a user.
fn is_of_user(line: &[u8], name: &str) -> bool {
    let line = line.trim_ascii();
    !line.starts_with(b"#") && line.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b":"))
}

fn try_keys(owner: &str, file: &[u8]) {
    let parsed = parse_keys(file);
    let new = KeyRecord {
        id: "00112233445f".into(),
        sha256: "0123456789abcdef".repeat(4),
        owner: owner.into(),
        repositories: None,
        can: Some(vec!["pull".into()]),
        created: "2026-01-31T12:00:00Z".into(),
        expires: None,
        note: Some(owner.into()),
    };
    let added = add_record(file, &new);
    let Ok((records, keys)) = parsed else {
        assert!(added.is_err(), "a file that is not accepted is not made worse");
        return;
    };
    assert_eq!((records.len(), records.is_empty()), (keys.len(), keys.is_empty()));
    assert!(keys.owners().iter().all(|owner| records.iter().any(|record| record.owner == *owner)));
    let may_be_added = !owner.is_empty() && records.iter().all(|record| record.id != new.id);
    assert_eq!(added.is_ok(), may_be_added, "{added:?}");
    if let Ok(added) = added {
        let line = serde_json::to_vec(&new).expect("a record has a form in JSON");
        assert_eq!(added, with_line(file, &line));
        let mut expected = records.clone();
        expected.push(new.clone());
        assert_eq!(parse_keys(&added).expect("the file was accepted before").0, expected);
        let without = remove_record(&added, &new.id).expect("the key was added");
        assert!(without == file || without.strip_suffix(b"\n") == Some(file));
    } else if owner.is_empty() {
        assert!(records.iter().all(|record| !record.owner.is_empty()));
    }
    for record in &records {
        let removed = remove_record(file, &record.id).expect("the key is in the file");
        let others =
            lines_but(file, |line| serde_json::from_slice(line).is_ok_and(|of: KeyRecord| of == *record));
        assert_eq!(removed, others);
        let left = parse_keys(&removed).expect("the file was accepted before").0;
        assert!(left.iter().eq(records.iter().filter(|other| other.id != record.id)));
        // What `quinistry key` would write is read as the same key.
        let alone = add_record(b"", record).expect("the record was accepted before");
        assert_eq!(
            parse_keys(&alone).expect("the record was accepted before").0,
            std::slice::from_ref(record)
        );
    }
    assert_eq!(remove_record(file, owner).is_some(), records.iter().any(|record| record.id == owner));
}

/// Returns the lines that are not left out.
fn lines_but(file: &[u8], is_left_out: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let lines = file.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !is_left_out(line)).flatten().copied().collect()
}

/// Returns the file with a line at its end.
fn with_line(file: &[u8], line: &[u8]) -> Vec<u8> {
    let end: &[u8] = if file.is_empty() || file.ends_with(b"\n") { b"" } else { b"\n" };
    [file, end, line, b"\n"].concat()
}
