//! Reasons why a TLS connection fails, each a sentence with a remedy.
//!
//! The messages of the TLS library are written for its users' logs. None of them reaches a user of this program.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use jiff::Timestamp;
use quinistry_oci::escape::Escaped;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::verifier::is_authority_as_server;

/// Number of a certificate's names that a message repeats.
const MAX_NAMES: usize = 8;

/// Object identifiers of signature algorithms that rely on a broken hash: DER, and the hash's name. RFC 3279.
const BROKEN_HASHES: [(&[u8], &str); 3] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "SHA-1"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "SHA-1"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "MD5"),
];

/// Reason why a TLS connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// A certificate of the chain has expired. Both times in seconds since 1970.
    Expired {
        /// End of the certificate's validity.
        not_after: u64,
        /// Time of this machine's clock.
        now: u64,
    },
    /// A certificate of the chain is not valid yet. Both times in seconds since 1970.
    NotYetValid {
        /// Begin of the certificate's validity.
        not_before: u64,
        /// Time of this machine's clock.
        now: u64,
    },
    /// The certificate does not have the registry's name.
    OtherNames {
        /// Name of the registry.
        expected: String,
        /// Names that the certificate has.
        presented: Vec<String>,
    },
    /// No trusted authority has issued the certificate.
    UnknownIssuer,
    /// The certificate is that of an authority, and is not trusted as it is.
    AuthorityAsServer,
    /// The certificate is signed by means of a broken hash, or by an algorithm that is not supported.
    Signature {
        /// Name of the broken hash.
        hash: Option<&'static str>,
    },
    /// The certificate may not be used by servers (extended key usage).
    NotForServers,
    /// The certificate is malformed, revoked, or breaks a rule that its issuer has set.
    BadCertificate,
    /// The server does not speak TLS.
    PlainHttp,
    /// The server closed the connection during the handshake.
    Closed,
    /// The server demands a client's certificate, and has got none.
    ClientCertificateRequired,
    /// The server refused the client's certificate, or the lack of one.
    ClientCertificateRefused,
    /// The server supports no version of TLS from 1.2 on.
    Version,
    /// The server supports none of the client's cipher suites, or refuses the client for another reason.
    Handshake,
    /// The server has no certificate for the name that the client asked for.
    UnknownName,
    /// The server ended the connection with another alert, whose number is in RFC 8446, section 6.
    Alert(u8),
    /// The server breaks the rules of TLS, or the TLS library refuses to go on.
    Protocol,
}

// === impl TlsFault ===

impl TlsFault {
    /// Finds an error of the TLS library among the causes of an error.
    #[must_use]
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<Error>() {
                return Some(Self::of(error));
            }
            next = match error.downcast_ref::<io::Error>() {
                Some(error) if error.to_string() == "tls handshake eof" => return Some(Self::Closed),
                // `source` of such an error skips the error inside.
                Some(outer) => outer.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
                None => error.source(),
            };
        }
        None
    }

    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::PlainHttp,
            Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::Version,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Protocol,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        let seconds = |time: &UnixTime| time.as_secs();
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { not_after: seconds(not_after), now: seconds(time) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid { not_before: seconds(not_before), now: seconds(time) }
            }
            CertificateError::NotValidForNameContext { expected, presented } => Self::OtherNames {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().filter_map(|name| host_name(name)).collect(),
            },
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: id, .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: id,
                ..
            } => {
                let is_in = |oid: &[u8]| id.windows(oid.len()).any(|part| part == oid);
                let broken = BROKEN_HASHES.iter().find(|(oid, _)| is_in(oid));
                Self::Signature { hash: broken.map(|(_, name)| *name) }
            }
            CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
                Self::NotForServers
            }
            CertificateError::Other(other) if is_authority_as_server(other) => Self::AuthorityAsServer,
            _ => Self::BadCertificate,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                Self::ClientCertificateRequired
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::ClientCertificateRefused,
            AlertDescription::ProtocolVersion => Self::Version,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Self::Handshake,
            AlertDescription::UnrecognisedName => Self::UnknownName,
            other => Self::Alert(other.into()),
        }
    }
}

/// Reads a name of rustls-webpki: `DnsName("a")` or `IpAddress(1.2.3.4)`. Other kinds name no host.
fn host_name(name: &str) -> Option<String> {
    let dns = name.strip_prefix("DnsName(\"").and_then(|name| name.strip_suffix("\")"));
    let address = || name.strip_prefix("IpAddress(").and_then(|name| name.strip_suffix(')'));
    dns.or_else(address).map(str::to_owned)
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired { not_after, now } => {
                let (date, ago) = (Date(*not_after), Span(now.saturating_sub(*not_after)));
                return write!(
                    f,
                    "its certificate expired {ago} ago ({date}, by this machine's clock); renew the certificate, or \
                     set the clock"
                );
            }
            Self::NotYetValid { not_before, now } => {
                let (date, span) = (Date(*not_before), Span(not_before.saturating_sub(*now)));
                return write!(
                    f,
                    "its certificate is not valid before {date}, in {span} by this machine's clock; set the clock, or \
                     give the server a certificate that is valid now"
                );
            }
            Self::OtherNames { expected, presented } => {
                return write!(
                    f,
                    "its certificate is for {}, not for {}; use a name that the certificate has, or give the server a \
                     certificate for this one",
                    Names(presented),
                    Escaped(expected)
                );
            }
            Self::UnknownIssuer => {
                "no trusted authority has issued its certificate; if you trust the server, pass its authority's \
                 certificate, or its own, with --ca FILE"
            }
            Self::AuthorityAsServer => {
                "its certificate is that of an authority (CA:TRUE), and is not trusted; if you trust the server, pass \
                 this very certificate with --ca FILE, or give the server one with basicConstraints=CA:FALSE"
            }
            Self::Signature { hash: Some(hash) } => {
                return write!(
                    f,
                    "its certificate is signed with {hash}, which is broken; have the certificate issued again with \
                     SHA-256"
                );
            }
            Self::Signature { hash: None } => {
                "its certificate is signed with an algorithm that is not supported; have it issued with RSA, ECDSA \
                 (P-256 or P-384) or Ed25519, and SHA-256"
            }
            Self::NotForServers => {
                "its certificate is not for servers (extended key usage); give the server one with serverAuth"
            }
            Self::BadCertificate => {
                "its certificate is malformed, or breaks a rule that its issuer has set; look at it with openssl \
                 x509 -text, and give the server another one"
            }
            Self::PlainHttp => {
                "it speaks plain HTTP, and the request was TLS; if you trust the network, pass --plain-http"
            }
            Self::Closed => {
                "it closed the connection during the TLS handshake; look into its log, or pass --plain-http if it \
                 speaks plain HTTP and you trust the network"
            }
            Self::ClientCertificateRequired => {
                "it demands a client certificate; pass yours with --cert FILE and --key FILE"
            }
            Self::ClientCertificateRefused => {
                "it refused the client certificate, or demands one; pass one that it accepts with --cert FILE and \
                 --key FILE"
            }
            Self::Version => {
                "it supports no version of TLS from 1.2 on; upgrade the server, or allow TLS 1.2 in its configuration"
            }
            Self::Handshake => {
                "it refused the TLS handshake: it demands a client certificate (pass yours with --cert FILE and --key \
                 FILE), or shares no cipher suite (allow one with ECDHE and AES-GCM or ChaCha20)"
            }
            Self::UnknownName => "it has no certificate for this name; use a name that the server knows",
            Self::Alert(number) => {
                return write!(f, "it ended the TLS connection with alert {number}; look into the server's log");
            }
            Self::Protocol => {
                "it breaks the rules of TLS; check that the port is right, and that nothing on the way interferes"
            }
        })
    }
}

/// A point in time, in seconds since 1970.
struct Date(u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()) {
            Some(time) => write!(f, "{}", time.strftime("%Y-%m-%d %H:%M UTC")),
            None => f.write_str("a date after the year 9999"),
        }
    }
}

/// A span of time in seconds, shown in its largest unit.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(365 * 86_400, "year"), (86_400, "day"), (3600, "hour"), (60, "minute")];
        let Some((unit, name)) = UNITS.iter().find(|(unit, _)| self.0 >= *unit) else {
            return f.write_str("less than a minute");
        };
        let number = self.0 / unit;
        write!(f, "{number} {name}{}", if number == 1 { "" } else { "s" })
    }
}

/// Names of a certificate, in words.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no host at all (a common name does not count)");
        }
        let shown = self.0.len().min(MAX_NAMES);
        for (number, name) in self.0[..shown].iter().enumerate() {
            let separator = match number {
                0 => "",
                _ if number + 1 == self.0.len() => " and ",
                _ => ", ",
            };
            write!(f, "{separator}{}", Escaped(name))?;
        }
        match self.0.len() - shown {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::ServerName;

    use super::*;

    const DAY: u64 = 86_400;
    /// 2026-11-29 07:20:30 UTC
    const NOW: u64 = 1_795_936_830;

    fn text(error: CertificateError) -> String {
        TlsFault::of(&error.into()).to_string()
    }

    #[test]
    fn dates_are_told_as_people_read_them() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = text(CertificateError::ExpiredContext { time: at(NOW + 3 * DAY), not_after: at(NOW) });
        assert!(
            expired.starts_with("its certificate expired 3 days ago (2026-11-29 07:20 UTC, "),
            "{expired}"
        );
        let early = text(CertificateError::NotValidYetContext { time: at(NOW - 7200), not_before: at(NOW) });
        assert!(
            early.starts_with("its certificate is not valid before 2026-11-29 07:20 UTC, in 2 hours "),
            "{early}"
        );
        assert!(Date(u64::MAX).to_string().contains("9999"));
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        for (seconds, text) in [
            (0, "less than a minute"),
            (60, "1 minute"),
            (7199, "1 hour"),
            (2 * DAY - 1, "1 day"),
            (364 * DAY, "364 days"),
            (800 * DAY, "2 years"),
        ] {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }

    #[test]
    fn the_names_of_a_certificate_are_told() {
        let names = |presented: &[&str]| {
            text(CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("registry.example.com").unwrap(),
                presented: presented.iter().map(|name| (*name).to_owned()).collect(),
            })
        };
        let some = names(&["DnsName(\"a.example\")", "Unsupported(0x81)", "IpAddress(10.0.0.5)"]);
        assert!(some.contains("is for a.example and 10.0.0.5, not for registry.example.com; "), "{some}");
        assert!(names(&["DirectoryName"]).contains("is for no host at all (a common name"));
        let evil = names(&["DnsName(\"a\u{1b}[2J\")"]);
        assert!(!evil.contains('\u{1b}'), "{evil}");
        let many = names(&["DnsName(\"a\")"; 300]);
        assert!(many.len() < 300 && many.contains(" and 292 more"), "{many}");
    }

    #[test]
    fn no_error_of_the_library_is_told_in_its_own_words() {
        let errors = [
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::InvalidCertificate(CertificateError::BadEncoding),
            Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(
                webpki::Error::CaUsedAsEndEntity,
            )))),
            Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(
                webpki::Error::NameConstraintViolation,
            )))),
            Error::AlertReceived(AlertDescription::CertificateRequired),
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::InternalError),
            Error::AlertReceived(AlertDescription::Unknown(200)),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::DecryptError,
            Error::General("Debug { it }".into()),
        ];
        for error in &errors {
            let text = TlsFault::of(error).to_string();
            assert!(!text.contains('\n') && !text.contains('{') && !text.contains("::"), "{text}");
            // CamelCase is a sign of a type's name; ECDSA and ChaCha20 are none.
            for word in ["UnknownIssuer", "CaUsedAsEndEntity", "InternalError", "BadEncoding", "Debug"] {
                assert!(!text.contains(word), "{text}");
            }
            assert!(text.contains("; ") || text.contains("pass "), "no remedy: {text}");
        }
        assert_eq!(TlsFault::of(&errors[2]), TlsFault::AuthorityAsServer);
        assert_eq!(TlsFault::of(&errors[7]), TlsFault::Alert(200));
    }

    #[test]
    fn a_fault_is_found_inside_io_errors() {
        let inner = io::Error::new(io::ErrorKind::InvalidData, Error::from(CertificateError::UnknownIssuer));
        let outer = io::Error::other(inner);
        assert_eq!(TlsFault::find(&outer), Some(TlsFault::UnknownIssuer));
        assert_eq!(TlsFault::find(&io::Error::other("tls handshake eof")), Some(TlsFault::Closed));
        assert_eq!(TlsFault::find(&io::Error::other("x")), None);
    }
}
