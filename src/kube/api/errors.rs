//! Errors of requests to the API server, by HTTP status. Pure.

/// HTTP status Too Many Requests.
const TOO_MANY_REQUESTS: u16 = 429;

/// Returns the HTTP status with which the API server, or a proxy in front of it, refused a request; `None`
/// without an answer, or if the answer cannot be decoded.
#[must_use]
pub(crate) fn refusal_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Returns true if a later attempt may succeed: the API server is overloaded or starting, or a proxy cannot
/// reach it.
#[must_use]
pub(crate) const fn is_passing(code: u16) -> bool {
    matches!(code, TOO_MANY_REQUESTS | 502..=504)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{is_passing, refusal_code};

    #[test]
    fn only_an_answer_has_a_code() {
        let status = Status::failure("away", "ServiceUnavailable").with_code(503).boxed();
        assert_eq!(refusal_code(&kube::Error::Api(status)), Some(503));
        assert_eq!(refusal_code(&kube::Error::Service("refused".into())), None);
        assert!(is_passing(429) && is_passing(503) && !is_passing(500) && !is_passing(403));
    }
}
