//! Names of users, from whatever source they are. Pure.

use super::credentials::TOKEN_USERS;

/// Prefix of groups in rules of access.
const GROUP_PREFIX: &str = "group:";

/// Longest name, in bytes.
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
    /// Name that would be two ones in lists of users.
    #[error("user name has a comma, which separates names in lists")]
    Comma,
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

/// Checks the name of a user.
pub fn check_user_name(name: &str) -> Result<(), UserNameError> {
    if name.is_empty() {
        Err(UserNameError::Empty)
    } else if name.len() > MAX_NAME_BYTES {
        Err(UserNameError::TooLong)
    } else if name.contains(char::is_control) {
        Err(UserNameError::Control)
    } else if name.starts_with('#') || name.trim() != name {
        Err(UserNameError::Edge)
    } else if RESERVED_NAMES.contains(&name) {
        Err(UserNameError::Reserved)
    } else if TOKEN_USERS.contains(&name) {
        Err(UserNameError::Token)
    } else if name.contains(',') {
        Err(UserNameError::Comma)
    } else if name.contains(':') {
        Err(UserNameError::Colon)
    } else {
        Ok(())
    }
}

/// Checks the name of a user that is a URI, such as a SPIFFE identifier: other names cannot have its colon.
pub(super) fn check_user_uri(uri: &str) -> Result<(), UserNameError> {
    match check_user_name(uri) {
        // The last check.
        Err(UserNameError::Colon) if !uri.starts_with(GROUP_PREFIX) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_file_or_a_request_cannot_hold_are_refused() {
        use UserNameError::{Colon, Comma, Control, Edge, Empty, Reserved, Token, TooLong};
        let long = "x".repeat(256);
        for (name, error) in [
            ("", Empty),
            ("a:b", Colon),
            ("group:dev", Colon),
            ("a,b", Comma),
            ("a\nb", Control),
            ("a\0b", Control),
            ("#a", Edge),
            (" a", Edge),
            ("a\u{a0}", Edge),
            ("anonymous", Reserved),
            ("authenticated", Reserved),
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

    #[test]
    fn a_uri_may_have_colons_and_is_no_group() {
        assert_eq!(check_user_uri("spiffe://example.org/ns/ci"), Ok(()));
        for uri in ["group:dev", "urn:a\nb", " urn:a", "anonymous", "urn:a,urn:b"] {
            assert!(check_user_uri(uri).is_err(), "{uri:?}");
        }
    }
}
