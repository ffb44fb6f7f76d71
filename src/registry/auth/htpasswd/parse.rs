//! Parser of an htpasswd file. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use quinistry_oci::escape::Escaped;

use super::bcrypt_hash::{BcryptHash, BcryptHashError, NEW_HASH_COST};
use crate::auth::credentials::TOKEN_USERS;
use crate::auth::file_finding::{FileFinding, FileFindings};

/// Longest file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Longest line, in bytes: a user name of 255 bytes and a hash of 60 leave ample room for comments.
const MAX_LINE_BYTES: usize = 4096;

/// Most lines of a file. With so many users, each with a line of 100 bytes, the memory is 20 MiB.
const MAX_LINES: usize = 100_000;

/// Costs that are neither quickly guessed nor slow to check.
const USUAL_COSTS: std::ops::RangeInclusive<u32> = 10..=13;

/// Users of a file.
#[derive(Debug)]
pub struct Users {
    lines: HashMap<Box<str>, UserLine>,
    /// Line that stands for users that are not in the file: of the highest cost in it, so that the time of an
    /// answer does not tell the names of the users.
    decoy: UserLine,
}

/// Password of a user.
#[derive(Clone, Debug)]
pub struct UserLine {
    /// Number of the line, from 1.
    pub line: u32,
    /// Hash; `None` if no password matches, as with hashes of another kind.
    pub hash: Option<BcryptHash>,
    /// Hash as it is written.
    pub(crate) text: HashText,
}

/// Text of a hash, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HashText(pub(crate) Box<str>);

/// Error of [`parse`]: the whole file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct HtpasswdError {
    /// Line, from 1.
    pub line: u32,
    /// Problem, without the content of the line, which may be a secret.
    pub message: &'static str,
}

/// Part of a line that counts.
pub(super) enum Line<'a> {
    /// Empty line, or comment.
    Blank,
    /// User name and hash.
    User(&'a [u8], &'a [u8]),
}

/// Parses a file. Lines of which no password matches are findings, and so are costs that are unusual.
pub fn parse(bytes: &[u8]) -> Result<(Users, Vec<FileFinding>), HtpasswdError> {
    let mut findings = FileFindings::default();
    let mut lines = HashMap::<Box<str>, UserLine>::new();
    for (index, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let fail = |message| Err(HtpasswdError { line: number, message });
        if index > MAX_LINES {
            return fail("file has more than 100,000 lines");
        }
        if text.len() > MAX_LINE_BYTES {
            return fail("line is longer than 4096 bytes");
        }
        let (name, hash) = match Line::parse(text) {
            Some(Line::User(name, hash)) => (name, hash),
            Some(Line::Blank) => continue,
            None => return fail("has no colon between user name and hash"),
        };
        let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(hash)) else {
            findings.warn(number, "user cannot log in, the line is not UTF-8".into());
            continue;
        };
        if name.is_empty() || name.contains(char::is_control) {
            findings.warn(number, "user cannot log in, the name is empty or has a control character".into());
            continue;
        }
        let hash = if TOKEN_USERS.contains(&name) {
            findings.warn(number, format!("user {name} cannot log in, the name stands for a token"));
            None
        } else {
            hash_of(name, text, number, &mut findings)
        };
        let line = UserLine { line: number, hash, text: HashText(text.into()) };
        match lines.entry(name.into()) {
            Entry::Vacant(place) => drop(place.insert(line)),
            Entry::Occupied(mut place) => {
                let former = place.insert(line).line;
                let message = format!("user {} also has line {former}, which has no effect", Escaped(name));
                findings.warn(number, message);
            }
        }
    }
    Ok((Users::new(lines), findings.into_vec()))
}

/// Returns the hash of a user if its password can match, and tells what is unusual.
fn hash_of(name: &str, text: &str, line: u32, findings: &mut FileFindings) -> Option<BcryptHash> {
    let name = Escaped(name);
    match BcryptHash::parse(text) {
        Ok(hash) => {
            let cost = hash.cost();
            if cost < *USUAL_COSTS.start() {
                findings.warn(
                    line,
                    format!("password of user {name} has cost {cost}, and is guessed faster than with 10"),
                );
            } else if cost > *USUAL_COSTS.end() {
                findings.warn(
                    line,
                    format!("password of user {name} has cost {cost}, and each check takes a long time"),
                );
            }
            Some(hash)
        }
        Err(error @ BcryptHashError::CostTooHigh(_)) => {
            findings.error(line, format!("user {name} cannot log in, the {error}"));
            None
        }
        Err(error) => {
            findings.warn(line, format!("user {name} cannot log in, the {error}"));
            None
        }
    }
}

// === impl Line ===

impl<'a> Line<'a> {
    /// Parses a line; `None` if it has no colon.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            return Some(Self::Blank);
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some(Self::User(&line[..colon], &line[colon + 1..]))
    }
}

// === impl Users ===

impl Users {
    fn new(lines: HashMap<Box<str>, UserLine>) -> Self {
        let costs = lines.values().filter_map(|line| line.hash.as_ref()).map(BcryptHash::cost);
        let hash = BcryptHash::decoy(costs.max().unwrap_or(NEW_HASH_COST));
        let text = HashText(hash.to_string().into());
        Self { lines, decoy: UserLine { line: 0, hash: Some(hash), text } }
    }

    /// Returns the number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns true if there are no users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns the line of a user.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<&UserLine> {
        self.lines.get(user)
    }

    /// Returns the users with their lines, in the order of the file.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&str, &UserLine)> {
        let mut users: Vec<_> = self.lines.iter().map(|(name, line)| (&**name, line)).collect();
        users.sort_unstable_by_key(|(_, line)| line.line);
        users
    }

    /// Returns the text and the hash to check a password of this user with: those of a decoy if there is no
    /// such user, or no password matches.
    pub(crate) fn to_check(&self, user: &str) -> (&HashText, &BcryptHash) {
        let line = self.get(user).filter(|line| line.hash.is_some()).unwrap_or(&self.decoy);
        (&line.text, line.hash.as_ref().expect("lines without a hash are replaced by the decoy"))
    }

    /// Returns true if this is the user's text of the hash.
    pub(crate) fn holds(&self, user: &str, text: &HashText) -> bool {
        self.get(user).is_some_and(|line| line.text == *text)
    }
}

impl std::fmt::Debug for HashText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    const HASH: &str = "$2y$10$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

    fn names(users: &Users) -> Vec<&str> {
        users.sorted().into_iter().map(|(name, _)| name).collect()
    }

    fn parsed(text: &str) -> (Users, Vec<(u32, Severity, String)>) {
        let (users, findings) = parse(text.as_bytes()).unwrap();
        (users, findings.into_iter().map(|found| (found.line, found.severity, found.message)).collect())
    }

    #[test]
    fn lines_are_trimmed_and_comments_ignored() {
        let (users, findings) = parsed(&format!("# users\r\n\n  alice:{HASH}  \r\n\t# bob:x\nbob:{HASH}"));
        assert_eq!((names(&users), findings), (vec!["alice", "bob"], Vec::new()));
        assert!(users.get("alice").unwrap().hash.is_some());
        assert!(parsed("").0.is_empty());
    }

    #[test]
    fn a_line_without_a_colon_is_an_error_of_the_file() {
        let error = parse(format!("alice:{HASH}\nsecret-token\n").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2: has no colon between user name and hash");
    }

    #[test]
    fn hashes_of_other_kinds_never_match_and_are_told() {
        let (users, findings) = parsed(&format!("md5:$apr1$x$y\nalice:{HASH}\noff:!\n"));
        assert_eq!(users.len(), 3);
        assert!(users.get("md5").unwrap().hash.is_none());
        let told = "user md5 cannot log in, the hash is not bcrypt's ($2a$, $2b$ or $2y$)";
        assert_eq!(findings[0], (1, Severity::Warning, told.into()));
        assert_eq!(findings[1].0, 3);
    }

    #[test]
    fn the_last_of_two_lines_of_a_user_holds() {
        let (users, findings) = parsed(&format!("alice:!\nalice:{HASH}\n"));
        assert_eq!(users.get("alice").unwrap().line, 2);
        assert!(users.get("alice").unwrap().hash.is_some());
        let told = "user alice also has line 1, which has no effect".to_owned();
        assert_eq!(findings.last().unwrap(), &(2, Severity::Warning, told));
    }

    #[test]
    fn row_105_a_line_of_cost_31_is_void_and_the_others_hold() {
        let (users, findings) = parsed(&format!("bob:{}\nalice:{HASH}\n", HASH.replace("$10$", "$31$")));
        assert!(users.get("bob").unwrap().hash.is_none());
        assert!(users.get("alice").unwrap().hash.is_some());
        let told =
            "user bob cannot log in, the cost 31 is above 16, and each check would take more than 5 seconds";
        assert_eq!(findings, [(1, Severity::Error, told.to_owned())]);
        assert_eq!(users.to_check("nemo").1.cost(), 10, "a void line does not slow others down");
    }

    #[test]
    fn unusual_costs_are_told() {
        let lines = [4, 9, 10, 13, 14, 16]
            .map(|cost| format!("u{cost}:{}", HASH.replace("$10$", &format!("${cost:02}$"))));
        let (users, findings) = parsed(&lines.join("\n"));
        let told: Vec<_> = findings.iter().map(|(line, severity, _)| (*line, *severity)).collect();
        assert_eq!(told, [1, 2, 5, 6].map(|line| (line, Severity::Warning)));
        assert!(users.sorted().iter().all(|(_, line)| line.hash.is_some()));
    }

    #[test]
    fn unknown_users_are_checked_at_the_highest_cost_of_the_file() {
        let (users, _) = parsed(&format!("a:{}\nb:{}\n", HASH.replace("$10$", "$12$"), HASH));
        assert_eq!(users.to_check("nemo").1.cost(), 12);
        assert_eq!(users.to_check("b").1.cost(), 10);
        assert_eq!(parsed("a:!\n").0.to_check("a").1.cost(), NEW_HASH_COST);
        assert!(!users.holds("nemo", users.to_check("nemo").0), "no user has the decoy's text");
    }

    #[test]
    fn names_that_no_client_can_send_are_told() {
        let (users, findings) = parsed(&format!(":{HASH}\na\u{7}b:{HASH}\n"));
        assert!(users.is_empty());
        assert_eq!(findings.len(), 2);
        let (users, findings) = parsed(&format!("<token>:{HASH}\n"));
        assert!(users.get("<token>").unwrap().hash.is_none());
        assert!(findings[0].2.contains("user <token> cannot log in, the name stands for a token"));
        let (users, findings) = parse(&[b"\xff:", HASH.as_bytes()].concat()).unwrap();
        assert_eq!((users.len(), findings.len()), (0, 1));
    }

    #[test]
    fn row_106_long_lines_and_many_lines_are_errors_by_line() {
        let long = format!("alice:{HASH}\nbob:{}\n", "x".repeat(1 << 20));
        assert_eq!(parse(long.as_bytes()).unwrap_err().to_string(), "line 2: line is longer than 4096 bytes");
        let many = "a:!\n".repeat(1_000_000);
        let error = parse(many.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 100002: file has more than 100,000 lines");
        let warned = parse("a:!\n".repeat(1000).as_bytes()).unwrap().1;
        assert_eq!(warned.len(), 101, "findings are bounded");
        assert_eq!(warned.last().unwrap().message, "1899 more findings are not shown");
    }

    #[test]
    fn debug_text_has_no_hash() {
        let (users, _) = parsed(&format!("alice:{HASH}\n"));
        assert!(!format!("{users:?}").contains("If6bvum7"), "{users:?}");
    }
}
