//! Signature of requests, as the specification of Standard Webhooks has it
//! (<https://www.standardwebhooks.com>, version 1.0.0). Pure.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Prefix of a written secret.
const PREFIX: &str = "whsec_";

/// Lengths of a secret in bytes that the specification permits.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Secret that a receiver shares. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// Error of a text that is not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be whsec_ and then 24 to 64 bytes in base64; make one with: echo whsec_$(head -c 32 /dev/urandom | base64)"
)]
pub struct InvalidSecret;

// === impl SigningSecret ===

impl std::str::FromStr for SigningSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if SECRET_BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(InvalidSecret) }
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Adds the headers that sign a body. `seconds` is the time of the attempt since 1970; the identifier is the
/// same in each attempt, so that receivers recognise repetitions. Each secret makes one signature: while
/// secrets are exchanged, a receiver accepts either of two.
pub(super) fn sign(headers: &mut HeaderMap, secrets: &[SigningSecret], id: &str, seconds: u64, body: &[u8]) {
    if secrets.is_empty() {
        return;
    }
    let text = |text: &str| HeaderValue::from_str(text).expect("identifiers, numbers and base64 are ASCII");
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0));
            context.update(format!("{id}.{seconds}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        })
        .collect();
    headers.insert(WEBHOOK_ID, text(id));
    headers.insert(WEBHOOK_TIMESTAMP, text(&seconds.to_string()));
    headers.insert(WEBHOOK_SIGNATURE, text(&signatures.join(" ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example of the specification, whose signature its libraries in other languages test for, too.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECONDS: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn signed(secrets: &[&str], body: &[u8]) -> HeaderMap {
        let secrets: Vec<SigningSecret> = secrets.iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        sign(&mut headers, &secrets, ID, SECONDS, body);
        headers
    }

    #[test]
    fn the_example_of_standard_webhooks_has_its_signature() {
        let headers = signed(&[SECRET], BODY);
        assert_eq!(headers["webhook-id"], ID);
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], SIGNATURE);
    }

    #[test]
    fn a_changed_byte_changes_the_signature() {
        let mut body = BODY.to_vec();
        for index in 0..body.len() {
            body[index] ^= 1;
            assert_ne!(signed(&[SECRET], &body)["webhook-signature"], SIGNATURE, "{index}");
            body[index] ^= 1;
        }
    }

    #[test]
    fn two_secrets_make_two_signatures() {
        let other = format!("{PREFIX}{}", BASE64_STANDARD.encode([7; 24]));
        let headers = signed(&[&other, SECRET], BODY);
        let both: Vec<&str> = headers["webhook-signature"].to_str().unwrap().split(' ').collect();
        assert!(both.len() == 2 && both[1] == SIGNATURE && both[0] != SIGNATURE, "{both:?}");
        assert!(signed(&[], BODY).is_empty());
    }

    #[test]
    fn secrets_have_the_form_of_the_specification_and_are_not_shown() {
        let of = |length: usize| format!("{PREFIX}{}", BASE64_STANDARD.encode(vec![1; length]));
        for text in ["", "whsec_", "hunter2", &of(23), &of(65), "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%"]
        {
            assert_eq!(text.parse::<SigningSecret>(), Err(InvalidSecret), "{text}");
        }
        for length in [24, 32, 64] {
            assert_eq!(format!("{:?}", of(length).parse::<SigningSecret>().unwrap()), "***");
        }
    }
}
