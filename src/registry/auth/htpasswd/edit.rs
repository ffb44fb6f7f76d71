//! Changes of the text of an htpasswd file, which leave all other lines as they are. Pure.

use super::bcrypt_hash::BcryptHash;
use super::parse::Line;
use crate::auth::credentials::TOKEN_USERS;

/// Longest name of a new user, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Words with a meaning of their own in rules of access.
const RESERVED_NAMES: [&str; 2] = ["anonymous", "authenticated"];

/// Error of [`check_user_name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// Empty name.
    #[error("user name is empty")]
    Empty,
    /// Name of more than 255 bytes.
    #[error("user name is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// Name that ends at its colon wherever it is sent.
    #[error("user name has a colon, which ends a name in the file and in requests")]
    Colon,
    /// Name with a control character.
    #[error("user name has a control character")]
    Control,
    /// Name that would be read as a comment, or without its spaces.
    #[error("user name begins with #, or begins or ends with a space")]
    Edge,
    /// Word of the rules of access.
    #[error("user name is a word of access rules; choose another one")]
    Reserved,
    /// Name that clients send in front of a token.
    #[error("user name stands for a token, and no password is accepted with it; choose another one")]
    Token,
}

/// Checks the name of a new user.
pub fn check_user_name(name: &str) -> Result<(), UserNameError> {
    if name.is_empty() {
        Err(UserNameError::Empty)
    } else if name.len() > MAX_NAME_BYTES {
        Err(UserNameError::TooLong)
    } else if name.contains(':') {
        Err(UserNameError::Colon)
    } else if name.contains(char::is_control) {
        Err(UserNameError::Control)
    } else if name.starts_with('#') || name.trim() != name {
        Err(UserNameError::Edge)
    } else if RESERVED_NAMES.contains(&name) {
        Err(UserNameError::Reserved)
    } else if TOKEN_USERS.contains(&name) {
        Err(UserNameError::Token)
    } else {
        Ok(())
    }
}

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

    #[test]
    fn names_that_a_file_or_a_request_cannot_hold_are_refused() {
        use UserNameError::{Colon, Control, Edge, Empty, Reserved, Token, TooLong};
        let long = "x".repeat(256);
        for (name, error) in [
            ("", Empty),
            ("a:b", Colon),
            ("a\nb", Control),
            ("a\0b", Control),
            ("#a", Edge),
            (" a", Edge),
            ("a\u{a0}", Edge),
            ("anonymous", Reserved),
            ("<token>", Token),
            ("oauth2accesstoken", Token),
            (long.as_str(), TooLong),
        ] {
            assert_eq!(check_user_name(name), Err(error), "{name:?}");
        }
        for name in ["alice", "ci@example.com", "Zo\u{eb}", "a b", "system-x"] {
            assert_eq!(check_user_name(name), Ok(()), "{name}");
        }
    }
}
