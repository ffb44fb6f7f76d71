//! Claims of a token (RFC 7519, 4, and distribution's `access`). Pure.

use serde::Deserialize;
use serde_json::Value;

use super::access::AccessEntry;

/// Tolerance for clocks that differ, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;

/// Greatest time of a token, in seconds since the epoch: the greatest number up to which JSON numbers are
/// exact.
const MAX_TIME: f64 = 9_007_199_254_740_991.0;

/// Claims that count here. Others are ignored, as is the form of those that only inform.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Claims {
    /// One text; a list of issuers is not a claim of this type (RFC 7519, 4.1.1).
    pub(super) iss: String,
    pub(super) sub: Option<String>,
    exp: f64,
    nbf: Option<f64>,
    pub(super) access: Option<Vec<AccessEntry>>,
    /// Version of the credentials that an own token was issued for. Other servers may mean something else.
    #[serde(default)]
    ver: Value,
    /// API key that an own token was issued for. Other servers may mean something else.
    #[serde(default)]
    key: Value,
}

/// Time in which a token is valid, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenValidity {
    /// First second, without leeway.
    pub not_before: u64,
    /// First second after the end, without leeway.
    pub expires: u64,
}

/// Reason for which a token is not valid now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Time that is not a number of seconds since the epoch.
    #[error("exp or nbf is not a time")]
    Malformed,
    /// Token whose time has passed.
    #[error("token expired")]
    Expired,
    /// Token whose time is yet to come.
    #[error("token is not valid yet")]
    NotYet,
}

// === impl Claims ===

impl Claims {
    /// Returns version and API key of an own token; `None` if they are not texts.
    pub(super) fn own(&self) -> Option<(String, Option<String>)> {
        let key = match &self.key {
            Value::Null => None,
            key => Some(key.as_str()?.to_owned()),
        };
        Some((self.ver.as_str()?.to_owned(), key))
    }

    pub(super) fn validity(&self) -> Result<TokenValidity, TimeError> {
        let not_before = self.nbf.map_or(Ok(0), seconds)?;
        Ok(TokenValidity { not_before, expires: seconds(self.exp)? })
    }
}

fn seconds(time: f64) -> Result<u64, TimeError> {
    if !(0.0..=MAX_TIME).contains(&time) {
        return Err(TimeError::Malformed);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok(time as u64)
}

// === impl TokenValidity ===

impl TokenValidity {
    /// Fails unless the token is valid at `now`, in seconds since the epoch.
    pub fn check(self, now: u64) -> Result<(), TimeError> {
        if now >= self.expires.saturating_add(LEEWAY_SECONDS) {
            return Err(TimeError::Expired);
        }
        if now.saturating_add(LEEWAY_SECONDS) < self.not_before {
            return Err(TimeError::NotYet);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(json: &str) -> Option<TokenValidity> {
        let json = json.replacen('{', r#"{"iss":"","#, 1).replace(",}", "}");
        serde_json::from_str::<Claims>(&json).ok()?.validity().ok()
    }

    #[test]
    fn row_115_a_clock_may_differ_by_a_minute_and_no_more() {
        let token = TokenValidity { not_before: 10_000, expires: 10_300 };
        for (now, expected) in [
            (10_000, Ok(())),
            (9_940, Ok(())),
            (9_939, Err(TimeError::NotYet)),
            (10_000 - 3600, Err(TimeError::NotYet)),
            (10_359, Ok(())),
            (10_360, Err(TimeError::Expired)),
            (10_000 + 3600, Err(TimeError::Expired)),
            (0, Err(TimeError::NotYet)),
            (u64::MAX, Err(TimeError::Expired)),
        ] {
            assert_eq!(token.check(now), expected, "{now}");
        }
    }

    #[test]
    fn row_122_times_are_numbers_of_seconds() {
        for (json, expected) in [
            (r#"{"exp":100}"#, Some((0, 100))),
            (r#"{"exp":100.9,"nbf":10.0}"#, Some((10, 100))),
            (r#"{"exp":1e3,"nbf":null}"#, Some((0, 1000))),
            (r#"{"exp":9007199254740991}"#, Some((0, 9_007_199_254_740_991))),
            (r#"{"exp":"1"}"#, None),
            (r#"{"exp":1e300}"#, None),
            (r#"{"exp":1e400}"#, None),
            (r#"{"exp":-1}"#, None),
            (r#"{"exp":null}"#, None),
            (r#"{"exp":true}"#, None),
            (r#"{"exp":[1]}"#, None),
            (r"{}", None),
            (r#"{"exp":100,"nbf":-1}"#, None),
            (r#"{"exp":100,"nbf":"1"}"#, None),
            (r#"{"exp":100,"nbf":1e300}"#, None),
        ] {
            let found = validity(json).map(|found| (found.not_before, found.expires));
            assert_eq!(found, expected, "{json}");
        }
    }
}
