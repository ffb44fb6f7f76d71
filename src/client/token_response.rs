//! Answers of token servers: the token, and its lifetime.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// Lifetime of a token whose server names none or a shorter one (distribution's token specification). The
/// registry refuses a token that expires earlier with a challenge, to which this client responds again.
const MIN_TOKEN_LIFETIME_SECONDS: u64 = 60;
/// Longest time that a token is kept, whatever its server names.
const MAX_TOKEN_LIFETIME_SECONDS: u64 = 24 * 3600;

/// Response of a token server.
#[derive(Deserialize)]
pub struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    /// Lifetime in seconds, of any JSON type: servers also send text.
    #[serde(default)]
    expires_in: Value,
}

// === impl TokenResponse ===

impl TokenResponse {
    /// Returns the token itself: servers fill either field, or both.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        let given = |text: &'_ Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        [&self.token, &self.access_token].into_iter().find(|text| given(text))?.as_deref()
    }

    /// Returns the time for which the token is valid, within bounds.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        let number = match &self.expires_in {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let longest = Duration::from_secs(MAX_TOKEN_LIFETIME_SECONDS);
        let seconds = number.filter(|seconds: &f64| *seconds > 0.0).unwrap_or_default();
        let lifetime = Duration::try_from_secs_f64(seconds).unwrap_or(longest);
        lifetime.clamp(Duration::from_secs(MIN_TOKEN_LIFETIME_SECONDS), longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> TokenResponse {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_token_is_found_in_either_field() {
        for text in [
            r#"{"token":"T"}"#,
            r#"{"access_token":"T"}"#,
            r#"{"token":"","access_token":"T"}"#,
            r#"{"token":null,"access_token":"T"}"#,
            r#"{"token":"T","access_token":""}"#,
            r#"{"token":"T","access_token":"other"}"#,
        ] {
            assert_eq!(response(text).text(), Some("T"), "{text}");
        }
        assert_eq!(response(r#"{"token":"","access_token":""}"#).text(), None);
    }

    #[test]
    fn a_life_is_between_a_minute_and_a_day_whatever_the_server_says() {
        let lifetime =
            |text: &str| response(&format!(r#"{{"token":"T","expires_in":{text}}}"#)).lifetime().as_secs();
        for text in ["0", "-1", "-9223372036854775808", "1", "null", "\"soon\"", "\"NaN\"", "[]", "-1e300"] {
            assert_eq!(lifetime(text), MIN_TOKEN_LIFETIME_SECONDS, "{text}");
        }
        assert_eq!(lifetime("300"), 300);
        assert_eq!(lifetime("\"300\""), 300);
        assert_eq!(lifetime("3600.5"), 3600);
        for text in ["18446744073709551615", "99999999999999999999999", "1e300", "\"inf\""] {
            assert_eq!(lifetime(text), MAX_TOKEN_LIFETIME_SECONDS, "{text}");
        }
        assert_eq!(response(r#"{"token":"T"}"#).lifetime().as_secs(), MIN_TOKEN_LIFETIME_SECONDS);
    }
}
