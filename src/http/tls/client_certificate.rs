//! Names of a client in its certificate. Pure.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Attribute `commonName` (RFC 5280, appendix A.1).
pub(super) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Longest name that is taken from a certificate, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Certificate of a client whose chain was verified in the handshake of this connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Names of the client.
    pub names: CertificateNames,
    /// End of the validity in seconds since 1970.
    pub not_after: u64,
}

/// Names in a certificate, by kind. A kind is [absent](CertificateName::Absent), has one name, or is
/// [ambiguous](CertificateName::Ambiguous).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// E-mail address (`rfc822Name`).
    pub email: CertificateName,
    /// URI, such as a SPIFFE identifier.
    pub uri: CertificateName,
    /// DNS name.
    pub dns: CertificateName,
    /// Common name of the subject.
    pub common_name: CertificateName,
}

/// Name of one kind in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The certificate has no name of this kind.
    #[default]
    Absent,
    /// The only name of this kind.
    Name(String),
    /// Several names, or a text that is no name: empty, longer than 255 bytes, or with a control character.
    Ambiguous,
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// Reads a verified certificate; `None` if its fields are malformed.
    pub(super) fn parse(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let mut names = CertificateNames::default();
        for attribute in certificate.tbs_certificate().subject().iter() {
            if attribute.oid == COMMON_NAME {
                names.common_name.add(text(&attribute.value));
            }
        }
        let alternatives = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()?;
        for alternative in alternatives.iter().flat_map(|(_, names)| names.0.iter()) {
            match alternative {
                GeneralName::Rfc822Name(name) => names.email.add(Some(name.as_str())),
                GeneralName::UniformResourceIdentifier(name) => names.uri.add(Some(name.as_str())),
                GeneralName::DnsName(name) => names.dns.add(Some(name.as_str())),
                _ => {}
            }
        }
        let not_after = certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
        Some(Self { names, not_after })
    }
}

/// Returns the text of an attribute in one of the common encodings.
pub(super) fn text(value: &x509_cert::der::Any) -> Option<&str> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str()),
        _ => None,
    }
}

// === impl CertificateName ===

impl CertificateName {
    fn add(&mut self, text: Option<&str>) {
        let text = text.filter(|text| {
            !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
        });
        *self = match (&self, text) {
            (Self::Absent, Some(name)) => Self::Name(name.to_owned()),
            _ => Self::Ambiguous,
        };
    }
}
