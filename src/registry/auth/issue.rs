//! Issuer of this registry's own tokens.

/// Issuer of tokens at [`TOKEN_PATH`](super::challenge::TOKEN_PATH).
#[derive(Debug)]
pub struct TokenIssuer {
    /// Name of this registry in tokens.
    pub service: String,
}
