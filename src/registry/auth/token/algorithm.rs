//! Signature algorithms that are accepted (RFC 7518, 3.1; RFC 8037). Pure.

use jsonwebtoken::Algorithm;

/// Algorithms that are accepted if a configuration lists none: all with public keys that can be verified.
const DEFAULT: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Signature algorithms that a verifier accepts. The default is all with public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedAlgorithms(Vec<Algorithm>);

impl Default for AllowedAlgorithms {
    fn default() -> Self {
        Self(DEFAULT.to_vec())
    }
}

impl AllowedAlgorithms {
    /// Name of an algorithm that configurations may list and that cannot be verified: ring has no P-521.
    pub const UNSUPPORTED: &'static str = "ES512";

    /// Returns the algorithms of a list; those of an empty list are the default. Names that are not supported
    /// are left out; `None` if no other is listed.
    #[must_use]
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut names = names.into_iter().peekable();
        if names.peek().is_none() {
            return Some(Self::default());
        }
        let found: Vec<Algorithm> = names.filter_map(|name| name.parse().ok()).collect();
        (!found.is_empty()).then_some(Self(found))
    }

    /// Makes a list of one algorithm.
    pub(in crate::auth) fn only(algorithm: Algorithm) -> Self {
        Self(vec![algorithm])
    }

    /// Returns the algorithm with a name, if it is accepted. Names are exact (RFC 7515, 4.1.1).
    pub(super) fn find(&self, name: &str) -> Option<Algorithm> {
        name.parse().ok().filter(|algorithm| self.0.contains(algorithm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_secrets_are_accepted_only_where_they_are_listed() {
        let default = AllowedAlgorithms::default();
        for name in ["RS256", "RS512", "PS384", "ES256", "ES384", "EdDSA"] {
            assert!(default.find(name).is_some(), "{name}");
        }
        for name in ["HS256", "HS512", "ES512", "none", "None", "nOnE", "rs256", "", "RS256 "] {
            assert!(default.find(name).is_none(), "{name}");
        }
        let listed = AllowedAlgorithms::of_names(["HS256", "ES512"]).unwrap();
        assert!(listed.find("HS256").is_some() && listed.find("RS256").is_none());
    }

    #[test]
    fn a_list_of_nothing_that_is_supported_is_refused() {
        assert_eq!(AllowedAlgorithms::of_names(["ES512"]), None);
        assert_eq!(AllowedAlgorithms::of_names(["none"]), None);
        assert_eq!(AllowedAlgorithms::of_names([]), Some(AllowedAlgorithms::default()));
    }
}
