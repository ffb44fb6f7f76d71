//! Grammar of `WWW-Authenticate`, the authentication schemes that a server offers. RFC 9110, section 11.
//!
//! Choosing and answering a challenge belongs to its caller.

use std::collections::BTreeMap;

/// Challenge of a server: a scheme and its parameters, the names of both in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Name of the scheme, in lower case.
    pub scheme: String,
    /// Values by the names of the parameters, in lower case.
    pub parameters: BTreeMap<String, String>,
}

// === impl Challenge ===

impl Challenge {
    /// Returns true if a token was refused for want of a scope, which the challenge names.
    pub(super) fn names_missing_scope(&self) -> bool {
        let is_insufficient = self.parameters.get("error").is_some_and(|error| error == "insufficient_scope");
        self.scheme == "bearer" && is_insufficient && self.parameters.contains_key("scope")
    }
}

/// Parses the challenges of one header field, which may hold several. The list ends at the first malformed
/// one.
#[must_use]
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return challenges;
        }
        let (word, after) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        match (after.trim_start_matches([' ', '\t']).strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let value = value.trim_start_matches([' ', '\t']);
                let Some((value, after)) = parameter_value(value) else { return challenges };
                challenge.parameters.insert(word, value);
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word, parameters: BTreeMap::new() });
                rest = after;
            }
        }
    }
}

/// Splits a token or a quoted string from the text behind it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // The equal signs that pad an opaque credential (`token68`) have no value, and are skipped with it.
        let text = text.trim_start_matches('=');
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].into(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let parameters = parameters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Challenge { scheme: scheme.into(), parameters }
    }

    #[test]
    fn quoted_and_bare_values_are_read() {
        assert_eq!(
            parse(r#"Bearer realm="https://auth/token",service=reg.io , scope="repository:a/b:pull,push""#),
            [challenge(
                "bearer",
                &[
                    ("realm", "https://auth/token"),
                    ("scope", "repository:a/b:pull,push"),
                    ("service", "reg.io")
                ]
            )]
        );
        assert_eq!(parse(r#"BASIC Realm = "a \"b\" c""#), [challenge("basic", &[("realm", r#"a "b" c"#)])]);
    }

    #[test]
    fn several_challenges_share_a_field() {
        assert_eq!(
            parse(r#"Basic realm="x, y", Negotiate, Bearer realm="z""#),
            [
                challenge("basic", &[("realm", "x, y")]),
                challenge("negotiate", &[]),
                challenge("bearer", &[("realm", "z")])
            ]
        );
    }

    #[test]
    fn malformed_fields_end_quietly() {
        assert_eq!(parse(""), []);
        assert_eq!(parse(",,,"), []);
        assert_eq!(parse("=x"), []);
        assert_eq!(parse("realm=\"x\""), []);
        assert_eq!(parse("Basic realm=\"x"), [challenge("basic", &[])]);
        assert_eq!(parse("Basic \u{e9}"), [challenge("basic", &[])]);
        assert_eq!(parse("Negotiate YWJj==, Basic")[1], challenge("basic", &[]));
    }
}
