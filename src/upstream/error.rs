//! Reasons why an upstream cannot be asked, inside of [`SourceError::Unavailable`](quinistry_fetch::SourceError).

use quinistry_client::{Cause, TlsFault};
use quinistry_fetch::hops::MAX_HOPS;
use reqwest::StatusCode;

use crate::helper::HelperError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("failed to reach {host}")]
    Connect {
        host: String,
        #[source]
        source: Cause,
    },
    #[error("failed to reach {host}: {reason}")]
    Tls { host: String, reason: String },
    #[error("{host} answered {status}")]
    Status { host: String, status: StatusCode },
    #[error(
        "{host} is not at a private address, and may be reached without verified HTTPS only there; set insecure to \
         public if you trust the network"
    )]
    NotPrivate { host: String },
    #[error("{host} has no address that may be dialled")]
    Address { host: String },
    #[error("the request has passed {MAX_HOPS} caches; do upstreams lead in a circle?")]
    Hops,
    #[error("failed to set up the HTTP client")]
    Setup(#[source] Cause),
    #[error("failed to get credentials")]
    Credentials(#[from] HelperError),
}

/// Returns the reason of a TLS failure, with a remedy in the words of a configuration instead of the command line's.
pub(crate) fn tls_reason(fault: &TlsFault) -> String {
    let reason = match fault {
        TlsFault::UnknownIssuer => {
            "no trusted authority has issued its certificate; if you trust the server, name a file with its \
             authority's certificate, or its own, as ca"
        }
        TlsFault::AuthorityAsServer => {
            "its certificate is that of an authority (CA:TRUE), and is not trusted; if you trust the server, name a \
             file with this very certificate as ca"
        }
        TlsFault::PlainHttp => {
            "it speaks plain HTTP, and the request was TLS; if you trust the network, use http and allow that by \
             insecure"
        }
        TlsFault::Closed => "it closed the connection during the TLS handshake; look into its log",
        TlsFault::ClientCertificateRequired | TlsFault::ClientCertificateRefused => {
            "it demands a client certificate, which is not supported for upstreams"
        }
        TlsFault::Handshake => {
            "it refused the TLS handshake: it demands a client certificate, which is not supported for upstreams, or \
             shares no cipher suite (allow one with ECDHE and AES-GCM or ChaCha20)"
        }
        other => return other.to_string(),
    };
    reason.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_those_of_a_configuration() {
        for fault in [
            TlsFault::UnknownIssuer,
            TlsFault::AuthorityAsServer,
            TlsFault::PlainHttp,
            TlsFault::Closed,
            TlsFault::ClientCertificateRequired,
            TlsFault::ClientCertificateRefused,
            TlsFault::Handshake,
            TlsFault::Version,
            TlsFault::UnknownName,
            TlsFault::BadCertificate,
            TlsFault::NotForServers,
            TlsFault::Protocol,
            TlsFault::Alert(1),
        ] {
            let reason = tls_reason(&fault);
            assert!(!reason.contains("--"), "{reason}");
        }
    }
}
