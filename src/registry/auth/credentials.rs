//! Parser of the `Authorization` field (RFC 9110, 11.6.2; RFC 7617; RFC 6750). Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::authenticator::Credentials;

/// User names behind which the password is a token: clients that know only user and password pass it on.
pub(super) const TOKEN_USERS: [&str; 2] = ["<token>", "oauth2accesstoken"];

/// Credentials of a request that own their text. `Debug` does not show the secret.
#[derive(Debug)]
pub(crate) enum AuthorizationField {
    /// No credentials: the field is absent, or user and password are empty.
    Absent,
    /// User name and password.
    Basic(BasicCredentials),
    /// Token.
    Bearer(Secret<String>),
}

/// User name and password. The password is not always UTF-8.
#[derive(Debug)]
pub(crate) struct BasicCredentials {
    user: String,
    password: Secret<Vec<u8>>,
}

/// Text that `Debug` does not show.
pub(crate) struct Secret<T>(T);

/// Error of the `Authorization` field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizationError {
    /// Two fields: a proxy in front may have looked at the other one.
    #[error("request has more than one Authorization header")]
    Repeated,
    /// Field of another form.
    #[error("Authorization header is not valid: {0}")]
    Malformed(&'static str),
    /// User name that no source of users can have.
    #[error("user name has a control character")]
    UserName {
        /// Name as it was sent.
        user: String,
    },
}

// === impl AuthorizationError ===

impl AuthorizationError {
    /// Returns the user name, if the field has one.
    pub(crate) fn into_user(self) -> Option<String> {
        match self {
            Self::UserName { user } => Some(user),
            Self::Repeated | Self::Malformed(_) => None,
        }
    }
}

// === impl AuthorizationField ===

impl AuthorizationField {
    /// Parses the field of a request.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, AuthorizationError> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let Some(field) = fields.next() else { return Ok(Self::Absent) };
        if fields.next().is_some() {
            return Err(AuthorizationError::Repeated);
        }
        let text = field.to_str().map_err(|_| AuthorizationError::Malformed("has bytes beyond ASCII"))?;
        let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
        let value = value.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::bearer(value.to_owned());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(AuthorizationError::Malformed("scheme is neither Basic nor Bearer"));
        }
        let decoded = STANDARD.decode(value).map_err(|_| AuthorizationError::Malformed("is not base64"))?;
        Self::basic(&decoded)
    }

    fn basic(decoded: &[u8]) -> Result<Self, AuthorizationError> {
        let colon = decoded.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or(AuthorizationError::Malformed("has no colon behind the user name"))?;
        let (user, password) = (&decoded[..colon], &decoded[colon + 1..]);
        // Engines of the containers-libs send these when they have no credentials.
        if user.is_empty() && password.is_empty() {
            return Ok(Self::Absent);
        }
        let user = String::from_utf8_lossy(user).into_owned();
        if user.chars().any(char::is_control) {
            return Err(AuthorizationError::UserName { user });
        }
        if TOKEN_USERS.contains(&user.as_str()) {
            let token = std::str::from_utf8(password);
            return Self::bearer(
                token.map_err(|_| AuthorizationError::Malformed("token is not ASCII"))?.to_owned(),
            );
        }
        Ok(Self::Basic(BasicCredentials { user, password: Secret(password.to_owned()) }))
    }

    fn bearer(token: String) -> Result<Self, AuthorizationError> {
        let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid {
            Ok(Self::Bearer(Secret(token)))
        } else {
            Err(AuthorizationError::Malformed("has no token"))
        }
    }

    /// Returns the credentials, if there are any.
    pub(crate) fn credentials(&self) -> Option<Credentials<'_>> {
        match self {
            Self::Absent => None,
            Self::Basic(BasicCredentials { user, password }) => {
                Some(Credentials::Basic { user, password: &password.0 })
            }
            Self::Bearer(token) => Some(Credentials::Bearer(&token.0)),
        }
    }
}

impl<T> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(fields: &[&str]) -> Result<AuthorizationField, AuthorizationError> {
        let value = |field: &&str| (AUTHORIZATION, HeaderValue::from_str(field).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(value) {
            headers.append(name, value);
        }
        AuthorizationField::parse(&headers)
    }

    fn basic(user_and_password: &[u8]) -> Result<AuthorizationField, AuthorizationError> {
        parse(&[&format!("Basic {}", STANDARD.encode(user_and_password))])
    }

    #[test]
    fn user_and_password_are_split_at_the_first_colon() {
        for (scheme, user, password) in [
            ("Basic", "alice", "a:b:c"),
            ("bAsIc", "alice", ""),
            ("BASIC", "", "x"),
            ("Basic", "\u{e4}", "x"),
        ] {
            let field = format!("{scheme} {}", STANDARD.encode(format!("{user}:{password}")));
            match parse(&[&field]).unwrap().credentials() {
                Some(Credentials::Basic { user: found, password: secret }) => {
                    assert_eq!((found, secret), (user, password.as_bytes()));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            basic(b"alice:\0\xff").unwrap().credentials(),
            Some(Credentials::Basic { password: b"\0\xff", .. })
        ));
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_the_password_of_a_reserved_user() {
        for field in [
            parse(&["Bearer abc.d-_~+/="]),
            parse(&["bearer  abc.d-_~+/= "]),
            basic(b"<token>:abc.d-_~+/="),
            basic(b"oauth2accesstoken:abc.d-_~+/="),
        ] {
            let field = field.unwrap();
            assert!(matches!(field.credentials(), Some(Credentials::Bearer("abc.d-_~+/="))), "{field:?}");
        }
    }

    #[test]
    fn empty_user_and_password_are_no_credentials() {
        assert!(parse(&["Basic Og=="]).unwrap().credentials().is_none());
        assert!(parse(&[]).unwrap().credentials().is_none());
    }

    #[test]
    fn other_fields_are_refused() {
        assert_eq!(parse(&["Basic Og==", "Basic Og=="]).unwrap_err(), AuthorizationError::Repeated);
        let megabyte = format!("Basic {}", "!".repeat(1 << 20));
        for field in [
            "",
            "Basic",
            "Basic ",
            "Basic ???",
            "Basic YWxpY2U=",
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Digest x",
            &megabyte,
        ] {
            assert!(matches!(parse(&[field]), Err(AuthorizationError::Malformed(_))), "{field}");
        }
        for user in ["a\0b:x", "a\nb:x", "\u{9b}:x"] {
            assert!(matches!(basic(user.as_bytes()), Err(AuthorizationError::UserName { .. })), "{user:?}");
        }
        let debug = format!("{:?} {:?}", basic(b"alice:s3cret").unwrap(), parse(&["Bearer s3cret"]).unwrap());
        assert!(debug.contains("alice") && !debug.contains("s3cret"), "{debug}");
    }
}
