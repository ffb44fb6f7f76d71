//! Fields of a server's certificate. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::client_certificate::{COMMON_NAME, text};

/// Fields of a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFields {
    /// Common name of the subject, if it has exactly one.
    pub subject: Option<String>,
    /// Common name of the issuer, if it has exactly one.
    pub issuer: Option<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Begin of the validity in seconds since 1970.
    pub not_before: u64,
    /// End of the validity in seconds since 1970.
    pub not_after: u64,
}

/// Returns true if a validity that ends at `not_after`, in seconds since 1970, is over at `now`. A certificate is still
/// valid in its last second (RFC 5280, 4.1.2.5).
pub(super) fn has_ended(not_after: u64, now: SystemTime) -> bool {
    not_after < now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl CertificateFields {
    /// Reads a certificate; `None` if its fields are malformed.
    #[must_use]
    pub fn parse(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let fields = certificate.tbs_certificate();
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        let alternatives = fields.get_extension::<SubjectAltName>().ok()?;
        for alternative in alternatives.iter().flat_map(|(_, names)| names.0.iter()) {
            match alternative {
                GeneralName::DnsName(name) => dns_names.push(name.as_str().to_owned()),
                GeneralName::IpAddress(bytes) => addresses.extend(address(bytes.as_bytes())),
                _ => {}
            }
        }
        let validity = fields.validity();
        Some(Self {
            subject: common_name(fields.subject()),
            issuer: common_name(fields.issuer()),
            dns_names,
            addresses,
            not_before: validity.not_before.to_unix_duration().as_secs(),
            not_after: validity.not_after.to_unix_duration().as_secs(),
        })
    }
}

fn common_name(name: &Name) -> Option<String> {
    let mut names = name.iter().filter(|attribute| attribute.oid == COMMON_NAME);
    match (names.next(), names.next()) {
        (Some(only), None) => text(&only.value).map(str::to_owned),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()))
}
