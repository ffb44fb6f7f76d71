//! Users by client certificates.
//!
//! Only a certificate whose chain was verified in the handshake of the connection counts, and never a header.

use quinistry_http::tls::{CertificateName, CertificateNames, TlsSession};

use super::authenticator::ConnectionVerifier;
use super::identity::{Identity, IdentityProof};
use super::user_name::{check_user_name, check_user_uri};

/// Kind of name in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateField {
    /// E-mail address.
    Email,
    /// URI, such as a SPIFFE identifier.
    Uri,
    /// DNS name.
    Dns,
    /// Common name of the subject.
    CommonName,
}

/// Source of identities from client certificates.
#[derive(Clone, Debug)]
pub struct CertificateUsers(pub Vec<CertificateField>);

// === impl CertificateField ===

impl CertificateField {
    /// Returns the field of a name in configurations.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "email" => Some(Self::Email),
            "uri" => Some(Self::Uri),
            "dns" => Some(Self::Dns),
            "commonname" => Some(Self::CommonName),
            _ => None,
        }
    }

    fn of(self, names: &CertificateNames) -> &CertificateName {
        match self {
            Self::Email => &names.email,
            Self::Uri => &names.uri,
            Self::Dns => &names.dns,
            Self::CommonName => &names.common_name,
        }
    }
}

// === impl CertificateUsers ===

impl CertificateUsers {
    /// Returns the first kind of name that a certificate has; `None` if it is ambiguous, or is not the name of a user. A
    /// later kind does not take its place, since the authority may have meant another client.
    fn user<'a>(&self, names: &'a CertificateNames) -> Option<&'a str> {
        let (field, found) = self
            .0
            .iter()
            .map(|field| (*field, field.of(names)))
            .find(|(_, name)| **name != CertificateName::Absent)?;
        let CertificateName::Name(name) = found else { return None };
        let checked = match field {
            CertificateField::Uri => check_user_uri(name),
            CertificateField::Email | CertificateField::Dns | CertificateField::CommonName => {
                check_user_name(name)
            }
        };
        checked.is_ok().then_some(name)
    }
}

impl ConnectionVerifier for CertificateUsers {
    fn identify(&self, extensions: &http::Extensions) -> Option<Identity> {
        let certificate = extensions.get::<TlsSession>()?.certificate.as_ref()?;
        let name = self.user(&certificate.names)?;
        Some(Identity { name: Some(name.into()), proof: IdentityProof::Certificate, ceiling: None })
    }
}

#[cfg(test)]
mod tests {
    use CertificateField::{CommonName, Dns, Email, Uri};

    use super::*;

    #[test]
    fn the_first_kind_of_name_that_a_certificate_has_is_the_users() {
        let name = |text: &str| CertificateName::Name(text.into());
        let names =
            CertificateNames { dns: name("d"), common_name: name("c"), ..CertificateNames::default() };
        let user = |fields: &[CertificateField], names: &CertificateNames| {
            CertificateUsers(fields.to_vec()).user(names).map(str::to_owned)
        };
        assert_eq!(user(&[Email, CommonName, Dns], &names).as_deref(), Some("c"));
        assert_eq!(user(&[Email, Dns], &names).as_deref(), Some("d"));
        assert_eq!(user(&[Email], &names), None);
        assert_eq!(user(&[], &names), None);
        let ambiguous = CertificateNames { email: CertificateName::Ambiguous, ..names };
        assert_eq!(user(&[Email, CommonName], &ambiguous), None, "no other kind takes its place");
    }

    #[test]
    fn row_140_a_name_that_is_no_user_name_is_no_identity() {
        let user = |field, name: &str| {
            let name = || CertificateName::Name(name.into());
            let names = CertificateNames { uri: name(), dns: name(), email: name(), common_name: name() };
            CertificateUsers(vec![field, CommonName]).user(&names).map(str::to_owned)
        };
        let long = "x".repeat(256);
        for name in ["group:dev", "a:b", "anonymous", "authenticated", " alice ", "a\nb", "#a", "", &long] {
            for field in [CommonName, Dns, Email] {
                assert_eq!(user(field, name), None, "{name:?}");
            }
        }
        assert_eq!(user(Uri, "group:dev"), None);
        assert_eq!(user(Uri, "spiffe://example.org/ci").as_deref(), Some("spiffe://example.org/ci"));
        assert_eq!(user(CommonName, "spiffe://example.org/ci"), None);
    }
}
