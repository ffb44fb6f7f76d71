//! Own authority, which signs certificates for one registry, and their renewal.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};

use super::files;
use super::host::Host;
use crate::http::tls::{CertificateFields, parse_certificates};
use crate::registry::auth::regular_file::Rewrite;

const DAY: Duration = Duration::from_hours(24);

/// Validity of an authority: ten years, since every client must be told about the next one.
const AUTHORITY_VALIDITY: Duration = DAY.saturating_mul(3653);

/// Validity of a registry's certificate. Apple's clients refuse more than 398 days.
const VALIDITY: Duration = DAY.saturating_mul(90);

/// Time before its end at which a certificate is renewed.
const RENEWAL_BEFORE_END: Duration = DAY.saturating_mul(30);

/// Time by which validity begins early, for clients whose clocks are slow.
const CLOCK_LEEWAY: Duration = Duration::from_hours(1);

/// Begin of the common name of each authority.
const NAME_PREFIX: &str = "Quinistry CA ";

/// Name that no host has (RFC 6761, 6.4), to permit no DNS name at all.
const NO_NAME: &str = "invalid";

/// Names of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// Authority that signs certificates.
pub(in crate::cli) struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificate with its key, in PEM.
pub(in crate::cli) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
}

// === impl Names ===

impl Names {
    pub(super) fn of(hosts: &[Host]) -> Self {
        let mut names = Self::default();
        for host in hosts {
            match host {
                Host::Name(name) => names.dns.push(name.clone()),
                Host::Address(address) => names.addresses.push(*address),
            }
        }
        names
    }

    fn alternatives(&self) -> anyhow::Result<Vec<SanType>> {
        let dns = self.dns.iter().map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        let addresses = self.addresses.iter().map(|address| Ok(SanType::IpAddress(*address)));
        dns.chain(addresses).collect()
    }

    /// Returns the constraints of an authority that can sign for these names alone. A kind of name that is not
    /// constrained would be permitted (RFC 5280, 4.2.1.10).
    fn constraints(&self) -> NameConstraints {
        let dns = |name: &str| GeneralSubtree::DnsName(name.trim_start_matches("*.").to_owned());
        let address =
            |address: IpAddr, bits| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits));
        let mut permitted: Vec<_> = self.dns.iter().map(|name| dns(name)).collect();
        if permitted.is_empty() {
            permitted.push(dns(NO_NAME));
        }
        let whole = |ip: &IpAddr| address(*ip, if ip.is_ipv4() { 32 } else { 128 });
        permitted.extend(self.addresses.iter().map(whole));
        let every_address = [IpAddr::from([0; 4]), IpAddr::from([0; 16])].map(|ip| address(ip, 0));
        let excluded = if self.addresses.is_empty() { every_address.to_vec() } else { Vec::new() };
        NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
    }
}

// === impl Authority ===

impl Authority {
    /// Makes an authority for these names, whose validity begins at `now`.
    pub(super) fn create(names: &Names, now: SystemTime) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("failed to make the key of the authority")?;
        // Two authorities of one name would confuse clients that trust the former one.
        let id = key.public_key_raw()[1..5].iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
        let id = format!("{id:08x}");
        let mut params = Self::params(&format!("{NAME_PREFIX}{id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.name_constraints = Some(names.constraints());
        set_validity(&mut params, now, AUTHORITY_VALIDITY);
        let certificate = params.self_signed(&key).context("failed to make the authority")?.pem();
        let pem = key.serialize_pem();
        Ok(Self { certificate, key: pem, issuer: Issuer::new(params, key) })
    }

    /// Reads an authority that [`create`](Self::create) made.
    fn read(certificate: &str, name: &str, key: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::from_pem(key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            issuer: Issuer::new(Self::params(name), pair),
        })
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Signs a certificate for these names, with a new key or the one given.
    pub(super) fn issue(&self, names: &Names, key: Option<&str>, now: SystemTime) -> anyhow::Result<Leaf> {
        let key = key.map_or_else(KeyPair::generate, KeyPair::from_pem)?;
        let mut params = CertificateParams::default();
        // Longer common names are refused (RFC 5280, appendix A.1). No address: OpenSSL takes a common name that looks
        // like a host name for one if there is no DNS name, and the authority permits none then.
        let first = names.dns.first().filter(|name| name.len() <= 64);
        params.distinguished_name = distinguished_name(first.map_or("registry", String::as_str));
        params.subject_alt_names = names.alternatives()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        set_validity(&mut params, now, VALIDITY);
        let certificate = params.signed_by(&key, &self.issuer).context("failed to sign the certificate")?;
        Ok(Leaf { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, validity: Duration) {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let begin = rcgen::date_time_ymd(1970, 1, 1) + now;
    params.not_before = begin - CLOCK_LEEWAY;
    params.not_after = begin + validity;
}

/// Renews a certificate that ends within 30 days at `now`, if an authority that `tls init` made lies beside it and
/// has signed it. The key stays, so that certificate and key never differ. Returns true if there is a new one. Blocks.
pub(in crate::cli) fn renew(certificate: &Path, key: &Path, now: SystemTime) -> anyhow::Result<bool> {
    let folder = certificate.parent().unwrap_or_else(|| Path::new(""));
    let (authority_file, authority_key) = (folder.join(files::AUTHORITY), folder.join(files::AUTHORITY_KEY));
    let authority_key = match fs::read_to_string(&authority_key) {
        Ok(key) => key,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", authority_key.display()));
        }
    };
    let Some((_, leaf)) = fields(certificate)? else { return Ok(false) };
    let now_seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if now_seconds + RENEWAL_BEFORE_END.as_secs() < leaf.not_after {
        return Ok(false);
    }
    let Some((pem, authority)) = fields(&authority_file)? else { return Ok(false) };
    let Some(name) = authority.subject.filter(|name| name.starts_with(NAME_PREFIX)) else { return Ok(false) };
    if leaf.issuer.as_ref() != Some(&name) {
        return Ok(false);
    }
    anyhow::ensure!(
        now_seconds < authority.not_after,
        "the authority in {} has expired; make a new one with `quinistry tls init --force`",
        authority_file.display()
    );
    let own = fs::read_to_string(key).with_context(|| format!("failed to read {}", key.display()))?;
    let names = Names { dns: leaf.dns_names, addresses: leaf.addresses };
    let authority = Authority::read(&pem, &name, &authority_key).with_context(|| {
        format!("the key of the authority beside {} cannot be used", certificate.display())
    })?;
    let renewed = authority.issue(&names, Some(&own), now)?;
    Rewrite::begin(certificate)
        .and_then(|file| file.write(renewed.certificate.as_bytes()))
        .with_context(|| format!("failed to write {}", certificate.display()))?;
    Ok(true)
}

/// Returns the text of a certificate's file, and the fields of its first certificate if they can be read.
fn fields(path: &Path) -> anyhow::Result<Option<(String, CertificateFields)>> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let certificates = parse_certificates(path, text.as_bytes())?;
    Ok(certificates.first().and_then(CertificateFields::parse).map(|fields| (text, fields)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::{TempDir, tempdir};

    use super::*;

    /// Folder with an authority, and a certificate that was made so many days ago.
    fn folder(days: u32) -> TempDir {
        let folder = tempdir().unwrap();
        let names = Names::of(&[Host::parse("reg.lan").unwrap(), Host::parse("10.0.0.5").unwrap()]);
        let then = SystemTime::now() - DAY * days;
        let authority = Authority::create(&names, then).unwrap();
        let leaf = authority.issue(&names, None, then).unwrap();
        let files = [
            (files::AUTHORITY, authority.certificate()),
            (files::AUTHORITY_KEY, authority.key()),
            (files::CERTIFICATE, &leaf.certificate),
            (files::KEY, &leaf.key),
        ];
        files::write_all(folder.path(), &files, false).unwrap();
        folder
    }

    fn renewed(folder: &TempDir) -> anyhow::Result<bool> {
        let path = |name| folder.path().join(name);
        renew(&path(files::CERTIFICATE), &path(files::KEY), SystemTime::now())
    }

    #[test]
    fn a_certificate_near_its_end_is_renewed_with_its_names_and_its_key() {
        let folder = folder(61);
        let path = folder.path().join(files::CERTIFICATE);
        let (before, fields_before) = fields(&path).unwrap().unwrap();
        assert!(renewed(&folder).unwrap());
        let (after, fields_after) = fields(&path).unwrap().unwrap();
        assert_ne!(before, after);
        let names = |fields: &CertificateFields| (fields.dns_names.clone(), fields.addresses.clone());
        assert_eq!(names(&fields_after), names(&fields_before));
        assert_eq!(fields_after.issuer, fields_before.issuer);
        assert!(fields_after.not_after > fields_before.not_after);
        let key = fs::read(folder.path().join(files::KEY)).unwrap();
        crate::http::tls::parse_pair((&path, after.as_bytes()), (Path::new("key"), &key)).unwrap();
        assert!(!renewed(&folder).unwrap(), "the new one is young");
    }

    #[test]
    fn openssl_accepts_a_certificate_for_an_address_alone() {
        let folder = tempdir().unwrap();
        let names = Names::of(&[Host::parse("10.0.0.5").unwrap()]);
        let authority = Authority::create(&names, SystemTime::now()).unwrap();
        let leaf = authority.issue(&names, None, SystemTime::now()).unwrap();
        let files = [(files::AUTHORITY, authority.certificate()), (files::CERTIFICATE, &leaf.certificate)];
        files::write_all(folder.path(), &files, false).unwrap();
        let verify = ["verify", "-verify_ip", "10.0.0.5", "-CAfile", files::AUTHORITY, files::CERTIFICATE];
        let output =
            std::process::Command::new("openssl").args(verify).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_renewed_certificate_keeps_its_link_and_its_mode() {
        let folder = folder(61);
        let (path, target) = (folder.path().join(files::CERTIFICATE), folder.path().join("target.crt"));
        fs::rename(&path, &target).unwrap();
        std::os::unix::fs::symlink("target.crt", &path).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        let before = fs::read(&target).unwrap();
        assert!(renewed(&folder).unwrap());
        assert!(path.is_symlink());
        assert_ne!(fs::read(&target).unwrap(), before);
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    }

    #[test]
    fn a_young_certificate_and_one_without_its_authority_stay() {
        assert!(!renewed(&folder(59)).unwrap());
        let without = folder(61);
        fs::remove_file(without.path().join(files::AUTHORITY_KEY)).unwrap();
        assert!(!renewed(&without).unwrap());
        let (one, other) = (folder(61), folder(61));
        for name in [files::AUTHORITY, files::AUTHORITY_KEY] {
            fs::copy(other.path().join(name), one.path().join(name)).unwrap();
        }
        assert!(!renewed(&one).unwrap(), "another authority signs nothing here");
    }
}
