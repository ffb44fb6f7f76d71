//! Files that cannot be used, and errors that say why.

use std::path::Path;

use super::pki::{Authority, Files};
use crate::tls::{LoadedTls, TlsError, TlsServer, TlsSettings};

fn failure(settings: TlsSettings) -> (TlsError, String) {
    let error = LoadedTls::read(settings).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn row_141_a_file_that_cannot_be_used_is_named_with_its_problem() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let leaf = authority.leaf("registry.test");
    let settings = files.pair(&leaf);
    let pem = leaf.certificate.pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n\
               -----END RSA PRIVATE KEY-----\n";
    let reversed = [authority.pem(), pem.clone()].concat();
    let other = authority.leaf("other").key.serialize_pem();
    let cut = &pem[..pem.len() / 2];
    let certificates: [(&str, &[u8], &str); 7] = [
        ("empty", b"", "is empty"),
        ("der", leaf.certificate.der(), "is DER, and not PEM; convert it: openssl x509 -inform der"),
        ("reversed", reversed.as_bytes(), "is in the wrong order: the key belongs to certificate 2"),
        ("cut", cut.as_bytes(), "is not valid PEM"),
        ("text", b"hello", "has no certificate"),
        ("key", other.as_bytes(), "has no certificate"),
        (
            "garbage",
            b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "certificate 1 cannot be used",
        ),
    ];
    for (name, content, problem) in certificates {
        let certificate = files.write(name, content);
        let (error, text) = failure(TlsSettings { certificate: certificate.clone(), ..settings.clone() });
        assert!(text.starts_with(&certificate.display().to_string()) && text.contains(problem), "{text}");
        assert_eq!(error.path(), Some(certificate.as_path()));
        assert!(!text.contains('\n'), "{text}");
    }
    let der = leaf.key.serialize_der();
    let keys: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "is empty"),
        ("der", &der, "is DER, and not PEM; convert it: openssl pkey -inform der"),
        ("encrypted", encrypted.as_bytes(), "is encrypted"),
        ("old", old.as_bytes(), "is encrypted"),
        ("certificate", pem.as_bytes(), "has no private key"),
        ("other", other.as_bytes(), "is not the key of the certificate in"),
    ];
    for (name, content, problem) in keys {
        let key = files.write(name, content);
        let (error, text) = failure(TlsSettings { key: key.clone(), ..settings.clone() });
        assert!(text.starts_with(&key.display().to_string()) && text.contains(problem), "{text}");
        assert_eq!(error.path(), Some(key.as_path()));
    }
    let (_, missing) = failure(TlsSettings { key: "/none".into(), ..settings.clone() });
    assert_eq!(missing, "failed to read /none");
    let bundle = files.write("bundle", "");
    let (error, text) = failure(TlsSettings { client_cas: vec![bundle.clone()], ..settings });
    assert_eq!((error.path(), text), (Some(&*bundle), format!("{} is empty", bundle.display())));
}

#[test]
fn no_error_holds_a_part_of_a_key() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let settings = files.pair(&authority.leaf("registry.test"));
    let key = files.write("bad", "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n");
    let (error, text) = failure(TlsSettings { key, ..settings.clone() });
    assert!(!text.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    let key = files.write("begin", "-----BEGIN PRIVATE KEY hunter2\n");
    let (error, _) = failure(TlsSettings { key, ..settings });
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn keys_in_each_form_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/tests/keys");
    for form in ["rsa-pkcs1", "rsa-pkcs8", "p256-sec1", "p384-pkcs8", "ed25519"] {
        let path = |end: &str| folder.join(format!("{form}.{end}"));
        LoadedTls::read(TlsSettings::new(path("crt"), path("key"))).unwrap_or_else(|error| panic!("{error}"));
    }
    let path = |end: &str| folder.join(format!("rsa-1024.{end}"));
    let (_, text) = failure(TlsSettings::new(path("crt"), path("key")));
    assert!(text.contains("rsa-1024.key is not supported"), "{text}");
}

#[test]
fn a_key_that_every_user_can_write_is_refused_and_one_that_every_user_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;

    let (authority, files) = (Authority::new("ca"), Files::new());
    let settings = files.pair(&authority.leaf("registry.test"));
    let server = TlsServer::new(LoadedTls::read(settings.clone()).unwrap());
    for (mode, is_refused, is_warned_about) in
        [(0o600, false, false), (0o640, false, false), (0o644, false, true), (0o666, true, false)]
    {
        std::fs::set_permissions(&settings.key, std::fs::Permissions::from_mode(mode)).unwrap();
        match LoadedTls::read(settings.clone()) {
            Ok(loaded) => {
                assert_eq!((false, loaded.warning().is_some()), (is_refused, is_warned_about), "{mode:o}");
            }
            Err(error) => {
                assert!(
                    is_refused && matches!(&error, TlsError::Writable(path) if *path == settings.key),
                    "{error}"
                );
                assert!(server.reload_at(std::time::SystemTime::now()).is_err(), "at a reload, too");
            }
        }
    }
}
