//! Verification of a token: form, algorithm, key, signature and claims, in this order. Pure.

use jsonwebtoken::{Algorithm, Validation};

use super::access::AccessEntry;
use super::algorithm::AllowedAlgorithms;
use super::claims::{Claims, TimeError, TokenValidity};
use super::crypto;
use super::key::{self, VerificationKey};
use super::keys::{ChainError, TokenKeys};
use super::unique_names;
use crate::auth::user_name::check_user_name;

/// Longest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest header of a token, in bytes of JSON.
pub const MAX_HEADER_BYTES: usize = 4 * 1024;

/// Demands on a token.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// Algorithms that are accepted.
    pub algorithms: AllowedAlgorithms,
    /// Issuer that the token must name.
    pub issuer: String,
    /// Audience that the token must name, alone or among others.
    pub audience: String,
}

/// Token that was verified.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// User name; `None` for a token of an anonymous client.
    pub subject: Option<String>,
    /// Access that the token grants.
    pub access: Vec<AccessEntry>,
    /// Time in which the token is valid.
    pub validity: TokenValidity,
    /// Version of the credentials that the token was issued for; empty in tokens of other servers.
    pub version: String,
    /// API key that the token was issued for, if it was one.
    pub api_key: Option<String>,
}

/// Reason for which a token is refused, for the log. Has no part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Token that is too long.
    #[error("token is longer than 16 KiB, or its header longer than 4 KiB")]
    TooLong,
    /// Text that is not a JWS in compact form.
    #[error("token is not a JWS of three parts in base64url")]
    Malformed,
    /// Part that is not JSON, or has a name twice.
    #[error("token is not of JSON objects with unique names")]
    Json,
    /// Header that demands what is not supported.
    #[error("token has the header crit or b64, which is not supported")]
    Critical,
    /// Algorithm that is not accepted.
    #[error("token is signed with an algorithm that is not accepted")]
    Algorithm,
    /// Token that does not name its key by a text.
    #[error("token has no kid")]
    NoKeyId,
    /// Key that is not known.
    #[error("token is signed with a key that is not known")]
    UnknownKey,
    /// Chain of certificates that is not trusted.
    #[error("token is refused: {0}")]
    Chain(#[from] ChainError),
    /// Key of another type.
    #[error("token is signed with an algorithm that does not fit its key")]
    KeyType,
    /// Signature that is not the key's.
    #[error("signature of the token is not valid")]
    Signature,
    /// Another issuer.
    #[error("token is of another issuer")]
    Issuer,
    /// Another audience.
    #[error("token is for another service")]
    Audience,
    /// Claim that is missing or of another type.
    #[error("claims of the token are missing or malformed")]
    Claims,
    /// Subject that cannot be a user name.
    #[error("subject of the token is not a user name")]
    Subject,
    /// Token that is not valid now.
    #[error(transparent)]
    Time(#[from] TimeError),
}

/// Part of a header that counts.
struct Header {
    algorithm: Algorithm,
    signer: Signer,
}

/// Statement of a header about its key.
enum Signer {
    Chain(Vec<String>),
    Id(String),
}

/// Verifies a token at `now`, in seconds since the epoch.
pub fn verify(
    token: &str,
    policy: &TokenPolicy,
    keys: &TokenKeys,
    now: u64,
) -> Result<VerifiedToken, TokenError> {
    let parsed = ParsedToken::parse(token, policy)?;
    let of_chain;
    let key = match &parsed.header.signer {
        Signer::Chain(chain) => {
            of_chain = keys.of_chain(chain, now)?;
            &of_chain
        }
        Signer::Id(id) => keys.find(id).ok_or(TokenError::UnknownKey)?,
    };
    let (token, _) = parsed.check(policy, key, now)?;
    if token.subject.as_deref().is_some_and(|name| check_user_name(name).is_err()) {
        return Err(TokenError::Subject);
    }
    Ok(token)
}

/// Verifies a token that names this registry's own key at `now`, in seconds since the epoch.
pub(in crate::auth) fn verify_own(
    token: &str,
    policy: &TokenPolicy,
    key: &VerificationKey,
    now: u64,
) -> Result<VerifiedToken, TokenError> {
    let (token, claims) = ParsedToken::parse(token, policy)?.check(policy, key, now)?;
    let (version, api_key) = claims.own().ok_or(TokenError::Claims)?;
    Ok(VerifiedToken { version, api_key, ..token })
}

/// Returns true if a token names the key with an id. Says nothing about its signature.
pub(in crate::auth) fn names_key(token: &str, id: &str) -> bool {
    let header = token.split('.').next().filter(|_| token.len() <= MAX_TOKEN_BYTES).and_then(key::decode);
    let header = header.and_then(|header| serde_json::from_slice::<serde_json::Value>(&header).ok());
    header.is_some_and(|header| header.get("kid").and_then(serde_json::Value::as_str) == Some(id))
}

/// Token whose form was checked, and not yet its signature.
struct ParsedToken<'a> {
    text: &'a str,
    header: Header,
}

// === impl ParsedToken ===

impl<'a> ParsedToken<'a> {
    fn parse(text: &'a str, policy: &TokenPolicy) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let header = key::decode(header).ok_or(TokenError::Malformed)?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(TokenError::TooLong);
        }
        let header = Header::parse(&header, &policy.algorithms)?;
        let payload = key::decode(payload).ok_or(TokenError::Malformed)?;
        unique_names::parse(&payload).map_err(|_| TokenError::Json)?;
        Ok(Self { text, header })
    }

    fn check(
        self,
        policy: &TokenPolicy,
        key: &VerificationKey,
        now: u64,
    ) -> Result<(VerifiedToken, Claims), TokenError> {
        if !key.fits(self.header.algorithm) {
            return Err(TokenError::KeyType);
        }
        let mut claims = check_signature(self.text, key, self.header.algorithm, policy)?;
        if claims.iss != policy.issuer {
            return Err(TokenError::Issuer);
        }
        let validity = claims.validity()?;
        validity.check(now)?;
        let token = VerifiedToken {
            // Anonymous clients have the empty subject.
            subject: claims.sub.take().filter(|subject| !subject.is_empty()),
            access: claims.access.take().unwrap_or_default(),
            validity,
            version: String::new(),
            api_key: None,
        };
        Ok((token, claims))
    }
}

/// Checks signature and audience, and returns the claims.
fn check_signature(
    token: &str,
    key: &VerificationKey,
    algorithm: Algorithm,
    policy: &TokenPolicy,
) -> Result<Claims, TokenError> {
    use jsonwebtoken::errors::ErrorKind;

    crypto::install();
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[&policy.audience]);
    validation.set_required_spec_claims(&["exp", "aud"]);
    // The library reads the clock itself.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation);
    decoded.map(|token| token.claims).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidAlgorithm => TokenError::KeyType,
        ErrorKind::Base64(_) | ErrorKind::InvalidToken => TokenError::Malformed,
        _ => TokenError::Claims,
    })
}

// === impl Header ===

impl Header {
    fn parse(json: &[u8], allowed: &AllowedAlgorithms) -> Result<Self, TokenError> {
        let value = unique_names::parse(json).map_err(|_| TokenError::Json)?;
        let fields = value.as_object().ok_or(TokenError::Json)?;
        if fields.contains_key("crit") || fields.contains_key("b64") {
            return Err(TokenError::Critical);
        }
        let name = fields.get("alg").and_then(serde_json::Value::as_str);
        let algorithm = name.and_then(|name| allowed.find(name)).ok_or(TokenError::Algorithm)?;
        let signer = match (fields.get("x5c"), fields.get("kid")) {
            (Some(chain), _) => {
                let items = chain.as_array().ok_or(ChainError::Malformed)?;
                let text = |item: &serde_json::Value| item.as_str().map(str::to_owned);
                Signer::Chain(items.iter().map(text).collect::<Option<_>>().ok_or(ChainError::Malformed)?)
            }
            (None, Some(serde_json::Value::String(id))) => Signer::Id(id.clone()),
            (None, _) => return Err(TokenError::NoKeyId),
        };
        Ok(Self { algorithm, signer })
    }
}
