//! Certificates of every kind, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};

use super::process::{command, output};
use super::skip::missing;

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Distinguishing marks of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Profile<'a> {
    /// Extensions, a line each.
    pub extensions: &'a str,
    /// Begin and end of its validity, as `openssl ca` takes them.
    pub validity: (&'a str, &'a str),
    /// Hash of its signature.
    pub hash: &'a str,
}

/// Extensions of a server on this machine's loopback.
pub const SERVER: &str = "basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
/// Extensions of an authority.
pub const AUTHORITY: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
/// Extensions of a server on loopback that is an authority, too, as `openssl req -x509` makes it.
pub const BOTH: &str = "basicConstraints=critical,CA:TRUE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";

impl Default for Profile<'_> {
    fn default() -> Self {
        Self { extensions: SERVER, validity: ("20200101000000Z", "20991231235959Z"), hash: "sha256" }
    }
}

/// A folder of certificates.
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// `None`, and a line that says so, if openssl is not there.
    pub fn new() -> Option<Self> {
        if output(command("openssl").arg("version")).is_err() {
            missing("openssl");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = "[ca]\ndefault_ca = x\n[x]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n\
                      policy = any\nemail_in_dn = no\nunique_subject = no\n[any]\ncommonName = supplied\n";
        fs::write(folder.path().join("ca.cnf"), config).unwrap();
        fs::write(folder.path().join("index.txt"), "").unwrap();
        Some(Self { folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a certificate that is signed by its own key.
    pub fn self_signed(&self, name: &str, profile: Profile<'_>) -> Pair {
        self.issue(name, None, profile)
    }

    /// Makes a certificate that another one's key signs.
    pub fn signed_by(&self, issuer: &Pair, name: &str, profile: Profile<'_>) -> Pair {
        self.issue(name, Some(issuer), profile)
    }

    fn issue(&self, name: &str, issuer: Option<&Pair>, profile: Profile<'_>) -> Pair {
        let file = |extension: &str| self.folder.path().join(format!("{name}.{extension}"));
        let (key, request, certificate) = (file("key"), file("csr"), file("crt"));
        fs::write(file("ext"), profile.extensions).unwrap();
        let mut new = command("openssl");
        new.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", &format!("/CN={name}")])
            .args([Path::new("-keyout"), &key, Path::new("-out"), &request]);
        self.run(&mut new);
        let mut sign = command("openssl");
        sign.args(["ca", "-batch", "-config", "ca.cnf", "-notext", "-md", profile.hash])
            .args(["-startdate", profile.validity.0, "-enddate", profile.validity.1])
            .args([Path::new("-in"), &request, Path::new("-out"), &certificate])
            .args([Path::new("-extfile"), &file("ext")]);
        match issuer {
            None => sign.args([Path::new("-selfsign"), Path::new("-keyfile"), &key]),
            Some(issuer) => {
                sign.args([Path::new("-cert"), &issuer.certificate, Path::new("-keyfile"), &issuer.key])
            }
        };
        self.run(&mut sign);
        Pair { certificate, key }
    }

    fn run(&self, openssl: &mut std::process::Command) {
        let made = output(openssl.current_dir(self.folder.path())).unwrap();
        assert!(made.status.success(), "{openssl:?}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Writes several certificates into one file.
    pub fn bundle(&self, name: &str, certificates: &[&Pair]) -> PathBuf {
        let texts = certificates.iter().map(|pair| fs::read_to_string(&pair.certificate).unwrap());
        let path = self.folder.path().join(name);
        fs::write(&path, texts.collect::<String>()).unwrap();
        path
    }
}
