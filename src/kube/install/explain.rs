//! Explanations of failed requests: one sentence with the reason and advice. Pure.

use std::error::Error;

use super::cluster_identity::{ClusterIdentity, plugin_failure};
use crate::api::errors::is_passing;
use crate::one_line::{cut, with_causes};

/// Returns why a request failed, on one line.
pub(super) fn explain(error: &kube::Error, identity: &ClusterIdentity) -> String {
    cut(&match error {
        kube::Error::Api(status) => refused(status.code, &status.message),
        kube::Error::SerdeError(error) => format!("the API server answers with something else: {error}"),
        kube::Error::Auth(auth) => plugin_failure(auth, identity).unwrap_or_else(|| with_causes(auth)),
        other => unanswered(other, identity),
    })
}

fn refused(code: u16, message: &str) -> String {
    let message = message.trim();
    match code {
        401 => "the API server does not accept your credentials (401 Unauthorized); log in to the cluster again, or \
                choose another user or context of the kubeconfig"
            .into(),
        code if is_passing(code) => {
            let message = if message.is_empty() { "it names no reason" } else { message };
            format!("the API server cannot serve requests now: {message} ({code}); try again later")
        }
        _ => format!("{message} ({code})"),
    }
}

/// Explains a request without an answer: failures of TLS first, then of the connection.
fn unanswered(error: &kube::Error, identity: &ClusterIdentity) -> String {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(auth) = cause.downcast_ref::<kube::client::AuthError>()
            && let Some(why) = plugin_failure(auth, identity)
        {
            return why;
        }
        next = cause.source();
    }
    let text = with_causes(error);
    let server = &identity.server;
    if let Some((_, detail)) = text.split_once("invalid peer certificate: ") {
        return format!(
            "the certificate of the API server {server} cannot be trusted: {}",
            certificate(detail)
        );
    }
    if text.contains("InvalidContentType") || text.contains("InvalidMessage") {
        return format!("{server} does not speak TLS; check the server's address in the kubeconfig");
    }
    if let Some((_, alert)) = text.split_once("received fatal alert: ") {
        let alert: String = alert.chars().take_while(char::is_ascii_alphanumeric).collect();
        return format!(
            "the API server {server} refuses the TLS connection ({alert}); check the client certificate of this user \
             in the kubeconfig"
        );
    }
    format!(
        "the API server {server} does not answer ({}); is it up, and is this the right kubeconfig and context?",
        text.trim_start_matches("ServiceError: ").trim_start_matches("HyperError: ")
    )
}

fn certificate(detail: &str) -> String {
    if detail.starts_with("UnknownIssuer") {
        "an authority that the kubeconfig does not name has signed it; check certificate-authority in the kubeconfig, \
         and that this is the right cluster"
            .into()
    } else if detail.to_lowercase().contains("expired") {
        "it has expired, says this machine's clock; renew it, or set the clock".into()
    } else if detail.starts_with("NotValidYet") || detail.contains("not valid yet") {
        "it is not valid yet, says this machine's clock; set the clock".into()
    } else if detail.starts_with("NotValidForName") || detail.contains("not valid for") {
        "it is for another name; use the name that it is for as server or tls-server-name of the kubeconfig"
            .into()
    } else {
        let detail = detail.split(": ").next().unwrap_or(detail);
        format!("{detail}; check certificate-authority in the kubeconfig")
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::*;

    fn identity() -> ClusterIdentity {
        ClusterIdentity { server: "https://192.0.2.1:6443".into(), ..ClusterIdentity::default() }
    }

    fn of_service(words: &str) -> String {
        explain(&kube::Error::Service(io::Error::other(words.to_owned()).into()), &identity())
    }

    fn of_status(code: u16, message: &str) -> String {
        let status = Status::failure(message, "reason").with_code(code).boxed();
        explain(&kube::Error::Api(status), &identity())
    }

    #[test]
    fn a_certificate_is_named_where_it_is_the_cause() {
        let unknown = of_service("client error (Connect): invalid peer certificate: UnknownIssuer");
        assert!(
            unknown.contains("cannot be trusted") && unknown.contains("certificate-authority"),
            "{unknown}"
        );
        let words =
            "invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for b";
        assert!(of_service(words).contains("tls-server-name"));
        let expired = "invalid peer certificate: certificate expired: verification time 2 (UNIX), but 1";
        assert!(of_service(expired).contains("expired"));
        assert!(!unknown.contains("does not answer"));
    }

    #[test]
    fn other_failures_of_tls_are_told_apart() {
        assert!(
            of_service("received corrupt message of type InvalidContentType").contains("does not speak TLS")
        );
        let alert = of_service("received fatal alert: CertificateRequired");
        assert!(alert.contains("(CertificateRequired)") && alert.contains("client certificate"), "{alert}");
        assert!(of_service("connection refused").contains("does not answer (connection refused)"));
    }

    #[test]
    fn refusals_say_what_to_do() {
        assert!(of_status(401, "Unauthorized").contains("log in to the cluster again"));
        let text = of_status(503, "etcd is away");
        assert!(text.contains("etcd is away (503); try again later"), "{text}");
    }

    #[test]
    fn an_explanation_is_one_line_of_bounded_length() {
        let text = of_status(403, &"no\nright ".repeat(300));
        assert!(text.chars().count() < 500 && !text.contains('\n') && text.ends_with("(403)"), "{text}");
    }
}
