//! Credentials and times of requests. Signatures themselves are not computed.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::answer::Answer;
use super::request::Request;
use super::{ACCESS_KEY, SECRET_KEY, Shape, TOKEN};

/// Greatest difference between the time of a request and that of the store (S3).
const MAX_SKEW: Duration = Duration::from_mins(15);

/// Returns temporary credentials of a number, as the services of containers issue them.
pub(super) fn issue(number: usize) -> String {
    let expiration = Timestamp::now() + Duration::from_hours(1);
    format!(
        r#"{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"token-{number}","Expiration":"{expiration}"}}"#
    )
}

/// Returns the refusal of a request, if there is a reason for one. `valid` is the number of the temporary credentials
/// that have not expired.
pub(super) fn refusal(request: &Request, shape: Shape, valid: usize, now: SystemTime) -> Option<Answer> {
    if request.header("x-amz-security-token").is_some_and(|token| token != format!("token-{valid}")) {
        return Some(Answer::error(400, "ExpiredToken", "the provided token has expired"));
    }
    let denied = |message| Some(Answer::error(403, "AccessDenied", message));
    if let Some(date) = request.parameter("X-Amz-Date").or_else(|| request.parameter("X-Goog-Date")) {
        let expires = request.parameter("X-Amz-Expires").or_else(|| request.parameter("X-Goog-Expires"));
        let Some(expires) = expires.and_then(|text| text.parse().ok()) else {
            return denied("a signed URL has no expiry");
        };
        return match parse(date) {
            Some(signed) if signed + Duration::from_secs(expires) < now => denied("Request has expired"),
            Some(signed) if signed > now + MAX_SKEW => denied("Request is not yet valid"),
            Some(_) => unknown_key(request.parameter("X-Amz-Credential")),
            None => denied("a signed URL has no date"),
        };
    }
    let Some(authorization) = request.header("authorization") else {
        return denied("the request is not signed");
    };
    if shape == Shape::Gcs {
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        // A token of the metadata server, or one that the client has signed itself (RFC 7519).
        let is_token = token == TOKEN || token.split('.').count() == 3;
        return if is_token { None } else { denied("the request has no token") };
    }
    let signed = request.header("x-amz-date").and_then(parse);
    let Some(signed) = signed else { return denied("the request has no date") };
    if signed > now + MAX_SKEW || now > signed + MAX_SKEW {
        return Some(Answer::error(403, "RequestTimeTooSkewed", "the difference is too large"));
    }
    unknown_key(authorization.split_once("Credential=").map(|(_, credential)| credential))
}

fn unknown_key(credential: Option<&str>) -> Option<Answer> {
    let key = credential.and_then(|credential| credential.split('/').next());
    let is_known = key.is_none_or(|key| key == ACCESS_KEY || key.contains('@'));
    (!is_known).then(|| Answer::error(403, "InvalidAccessKeyId", "the access key does not exist"))
}

/// Parses a time such as `20260102T030405Z`.
fn parse(text: &str) -> Option<SystemTime> {
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let time: Timestamp = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(time.into())
}
