//! Changes of the text of an htpasswd file, which leave all other lines as they are. Pure.

use super::bcrypt_hash::BcryptHash;
use super::parse::Line;

/// Returns the file with the user's new hash at the place of the line that holds until now, or at the end,
/// and true if the user was there. Other lines of the user are removed.
#[must_use]
pub fn set_user(file: &[u8], name: &str, hash: &BcryptHash) -> (Vec<u8>, bool) {
    let line = format!("{name}:{hash}");
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines.iter().rposition(|line| is_of(line, name));
    let mut text = Vec::with_capacity(file.len() + line.len() + 2);
    for (index, former) in lines.iter().enumerate() {
        if Some(index) == last {
            text.extend(line.as_bytes());
            text.extend(end_of(former));
        } else if !is_of(former, name) {
            text.extend(*former);
        }
    }
    if last.is_none() {
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend(line.as_bytes());
        text.push(b'\n');
    }
    (text, last.is_some())
}

/// Returns the file without any line of the user; `None` if there is none.
#[must_use]
pub fn remove_user(file: &[u8], name: &str) -> Option<Vec<u8>> {
    let lines = file.split_inclusive(|byte| *byte == b'\n');
    let kept: Vec<u8> = lines.filter(|line| !is_of(line, name)).flatten().copied().collect();
    (kept.len() != file.len()).then_some(kept)
}

/// Returns true if a line is that of a user.
fn is_of(line: &[u8], user: &str) -> bool {
    matches!(Line::parse(line), Some(Line::User(name, _)) if name == user.as_bytes())
}

/// Returns the line end of a line.
fn end_of(line: &[u8]) -> &'static [u8] {
    match line {
        [.., b'\r', b'\n'] => b"\r\n",
        _ => b"\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash() -> BcryptHash {
        BcryptHash::decoy(4)
    }

    fn set(file: &str, name: &str) -> (String, bool) {
        let (text, was_there) = set_user(file.as_bytes(), name, &hash());
        (String::from_utf8(text).unwrap().replace(&hash().to_string(), "NEW"), was_there)
    }

    #[test]
    fn a_new_user_is_added_at_the_end() {
        assert_eq!(set("", "bob"), ("bob:NEW\n".into(), false));
        assert_eq!(set("# a\nalice:1", "bob"), ("# a\nalice:1\nbob:NEW\n".into(), false));
        assert_eq!(set("bobby:1\n#bob:2\n", "bob"), ("bobby:1\n#bob:2\nbob:NEW\n".into(), false));
    }

    #[test]
    fn a_users_line_is_replaced_and_the_others_are_kept() {
        let file = "# team\r\n bob:old\nalice:1\n\n  bob:1 \r\nlast:2";
        assert_eq!(set(file, "bob"), ("# team\r\nalice:1\n\nbob:NEW\r\nlast:2".into(), true));
        assert_eq!(set("bob:1", "bob"), ("bob:NEW\n".into(), true));
    }

    #[test]
    fn removing_a_user_removes_all_lines_of_that_user() {
        let remove = |name| remove_user(b"bob:1\n# bob:2\nalice:1\nbob:3", name);
        assert_eq!(remove("bob").unwrap(), b"# bob:2\nalice:1\n");
        assert_eq!(remove("bo"), None);
        assert_eq!(remove_user(b"", "bob"), None);
    }
}
