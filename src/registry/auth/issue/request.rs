//! Request for a token: a query (distribution's token specification) or a form (its OAuth 2 variant). Pure.

use crate::auth::token::access::{MAX_SCOPES, RequestedScope};

/// Request for a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenRequest {
    /// Registry that the token is for.
    pub service: Option<String>,
    /// Scopes whose type is known.
    pub scopes: Vec<RequestedScope>,
    /// Kind of the grant, in a form.
    pub grant_type: Option<GrantType>,
    /// User name, in a form.
    pub username: Option<String>,
    /// Password, in a form.
    pub password: Option<String>,
}

/// Kind of a grant (RFC 6749).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// User name and password (4.3).
    Password,
    /// Any other. No refresh tokens are issued: a client would keep one and forget the password.
    Unsupported,
}

/// Error of [`TokenRequest::parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    /// Too many scopes.
    #[error("more than {MAX_SCOPES} scopes in one request")]
    TooManyScopes,
    /// Parameter that stands twice (RFC 6749, 3.2): a proxy in front may have looked at the other one.
    #[error("parameter {0} stands more than once")]
    Repeated(&'static str),
}

// === impl TokenRequest ===

impl TokenRequest {
    /// Parses a query or a form in `application/x-www-form-urlencoded`. `scope` may stand several times, and
    /// hold several scopes separated by spaces. Names that are not known are ignored.
    pub fn parse(encoded: &[u8]) -> Result<Self, TokenRequestError> {
        let mut request = Self::default();
        let mut scopes = 0;
        for (name, value) in form_urlencoded::parse(encoded) {
            match &*name {
                "scope" => {
                    for scope in value.split(' ').filter(|scope| !scope.is_empty()) {
                        scopes += 1;
                        if scopes > MAX_SCOPES {
                            return Err(TokenRequestError::TooManyScopes);
                        }
                        request.scopes.extend(RequestedScope::parse(scope));
                    }
                }
                "service" => set_once(&mut request.service, value.into_owned(), "service")?,
                "grant_type" => {
                    let is_password = value == "password";
                    let grant = if is_password { GrantType::Password } else { GrantType::Unsupported };
                    set_once(&mut request.grant_type, grant, "grant_type")?;
                }
                "username" => set_once(&mut request.username, value.into_owned(), "username")?,
                "password" => set_once(&mut request.password, value.into_owned(), "password")?,
                _ => {}
            }
        }
        Ok(request)
    }
}

fn set_once<T>(field: &mut Option<T>, value: T, name: &'static str) -> Result<(), TokenRequestError> {
    if field.replace(value).is_some() { Err(TokenRequestError::Repeated(name)) } else { Ok(()) }
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest")
            .field("service", &self.service)
            .field("scopes", &self.scopes)
            .field("grant_type", &self.grant_type)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(query: &str) -> Vec<String> {
        let scopes = TokenRequest::parse(query.as_bytes()).unwrap().scopes;
        let name = |scope: RequestedScope| match scope {
            RequestedScope::Repository { name, actions } => format!("{name}:{}", actions.join(",")),
            RequestedScope::Catalog => "catalog".into(),
        };
        scopes.into_iter().map(name).collect()
    }

    #[test]
    fn scopes_stand_in_several_parameters_and_in_one() {
        assert_eq!(
            scopes(
                "service=x&scope=repository:a:pull,push&scope=repository:b:pull&account=me&client_id=docker"
            ),
            ["a:pull,push", "b:pull"]
        );
        assert_eq!(
            scopes("scope=repository%3Aa%3Apull+repository:b:pull%20registry:catalog:*"),
            ["a:pull", "b:pull", "catalog"]
        );
        assert_eq!(scopes(""), [""; 0]);
        assert_eq!(scopes("scope=&scope=+++"), [""; 0]);
    }

    #[test]
    fn row_112_the_number_of_scopes_is_bounded_and_unknown_ones_are_dropped() {
        let many = |count: usize| "scope=x:y:z&".repeat(count);
        assert!(TokenRequest::parse(many(MAX_SCOPES).as_bytes()).unwrap().scopes.is_empty());
        for query in [many(MAX_SCOPES + 1), format!("scope={}", "x+".repeat(10_000))] {
            assert_eq!(TokenRequest::parse(query.as_bytes()), Err(TokenRequestError::TooManyScopes));
        }
        assert_eq!(
            scopes("scope=repository:../../x:pull&scope=repository:*:*&scope=registry:catalog:*"),
            ["catalog"]
        );
    }

    #[test]
    fn row_113_a_parameter_but_scope_stands_once() {
        for name in ["service", "grant_type", "username", "password"] {
            let form = format!("{name}=a&scope=x&scope=y&{name}=a");
            assert_eq!(TokenRequest::parse(form.as_bytes()), Err(TokenRequestError::Repeated(name)));
        }
    }

    #[test]
    fn a_form_has_user_password_and_grant() {
        let form = b"grant_type=password&username=alice&password=p%26w%2B+d&client_id=containerd-client";
        let request = TokenRequest::parse(form).unwrap();
        assert_eq!(request.grant_type, Some(GrantType::Password));
        assert_eq!(
            (request.username.as_deref(), request.password.as_deref()),
            (Some("alice"), Some("p&w+ d"))
        );
        assert!(!format!("{request:?}").contains("p&w"));
        let refresh = TokenRequest::parse(b"grant_type=refresh_token&refresh_token=x").unwrap();
        assert_eq!(refresh.grant_type, Some(GrantType::Unsupported));
    }
}
