//! TLS of one listener: the configuration in use, and its exchange without an end of connections.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::client_auth;
use super::error::TlsError;
use super::fields::{CertificateFields, has_ended};
use super::files::{parse_client_cas, parse_pair};
use super::session::Verification;
use super::settings::{ClientAuth, TlsSettings};
use crate::metrics::Counter;
use crate::watch::ReloadFiles;

/// Longest file with certificates or a key, in bytes. The bundle of all public authorities has 250 KB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Permissions to write and to read for all users.
const WRITABLE_BY_ALL: u32 = 0o002;
const READABLE_BY_ALL: u32 = 0o004;

/// TLS of one listener. Connections keep the configuration of their handshake.
#[derive(Debug)]
pub struct TlsServer {
    current: RwLock<InUse>,
    pub(super) handshakes: HandshakeCounts,
    reloads: Counter,
    failed_reloads: Counter,
}

/// Numbers of handshakes.
#[derive(Debug, Default)]
pub(super) struct HandshakeCounts {
    pub(super) completed: Counter,
    pub(super) failed: Counter,
}

/// TLS in use.
#[derive(Debug)]
struct InUse {
    loaded: LoadedTls,
    /// Number of exchanges: files that were read before one are not put into effect after it.
    exchanges: u64,
    verification: Verification,
}

/// Reload whose files are read without a lock: a network mount may hang.
pub(super) struct PendingReload {
    settings: TlsSettings,
    exchanges: u64,
}

/// Settings that may follow those in use.
#[derive(Debug)]
pub struct AcceptedTls(LoadedTls);

/// Settings with what was read from their files, ready to be used.
#[derive(Clone, Debug)]
pub struct LoadedTls {
    settings: TlsSettings,
    config: Arc<ServerConfig>,
    /// Chain of this server, to see whether a reload changes something.
    chain: Vec<CertificateDer<'static>>,
    /// Authorities of clients. Not one list with the chain: a certificate may move from one to the other.
    authorities: Vec<CertificateDer<'static>>,
    /// End of the leaf's validity in seconds since 1970, if its fields could be read.
    expiry: Option<u64>,
    /// True if every user of the machine can read the key.
    is_key_open: bool,
}

// === impl LoadedTls ===

impl LoadedTls {
    /// Reads the files of `settings`. Blocks.
    pub fn read(settings: TlsSettings) -> Result<Self, TlsError> {
        let (chain, _) = read(&settings.certificate)?;
        let (key, mode) = read(&settings.key)?;
        if mode & WRITABLE_BY_ALL != 0 {
            return Err(TlsError::Writable(settings.key));
        }
        let pair = parse_pair((&settings.certificate, &chain), (&settings.key, &key))?;
        let mut authorities = RootCertStore::empty();
        let (chain, mut client_authorities) = (pair.cert.clone(), Vec::new());
        for path in &settings.client_cas {
            let (bytes, _) = read(path)?;
            parse_client_cas(path, &bytes, &mut authorities)?;
            client_authorities.extend(super::parse_certificates(path, &bytes)?);
        }
        let expiry = chain.first().and_then(CertificateFields::parse).map(|fields| fields.not_after);
        let config = server_config(&settings, pair, authorities)?;
        let config = Arc::new(config);
        let is_key_open = mode & READABLE_BY_ALL != 0;
        Ok(Self { settings, config, chain, authorities: client_authorities, expiry, is_key_open })
    }

    /// Returns a warning if every user of the machine can read the key.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let key = self.settings.key.display();
        self.is_key_open.then(|| format!("every user can read the key {key}; run `chmod 600` on it"))
    }

    /// Returns the settings.
    #[must_use]
    pub const fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Returns true if certificates of clients are verified as `other` does.
    fn verifies_as(&self, other: &Self) -> bool {
        self.settings.client_auth == other.settings.client_auth && self.authorities == other.authorities
    }

    fn has_expired(&self, now: SystemTime) -> bool {
        self.expiry.is_some_and(|expiry| has_ended(expiry, now))
    }
}

/// Reads a file with its permission bits.
fn read(path: &Path) -> Result<(Vec<u8>, u32), TlsError> {
    let read = || {
        // A pipe would block as soon as it is opened, and a device may never end.
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("is not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        let mode = file.metadata()?.mode();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 4 MiB"));
        }
        Ok((bytes, mode))
    };
    read().map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn server_config(
    settings: &TlsSettings,
    pair: CertifiedKey,
    authorities: RootCertStore,
) -> Result<ServerConfig, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| settings.cipher_suites.has(*suite));
    let provider = Arc::new(provider);
    let versions: &[_] = if settings.requires_tls13 || !settings.cipher_suites.allow_tls12() {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let failed = |error: rustls::Error| TlsError::Settings(error.to_string());
    let verifier = client_auth::verifier(settings.client_auth, authorities, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if settings.client_auth == ClientAuth::None {
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(failed)?;
    } else {
        // A resumed session skips the check of the certificate, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

// === impl TlsServer ===

impl TlsServer {
    /// Makes the TLS of a listener.
    #[must_use]
    pub fn new(loaded: LoadedTls) -> Self {
        warn_of_expiry(&loaded, SystemTime::now());
        Self {
            current: RwLock::new(InUse { loaded, exchanges: 0, verification: Verification::default() }),
            handshakes: HandshakeCounts::default(),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
        }
    }

    /// Accepts settings that may follow those in use; refuses an expired certificate in place of one that has not.
    pub fn accept(&self, loaded: LoadedTls) -> Result<AcceptedTls, TlsError> {
        check_expiry(&self.read_current().loaded, &loaded, SystemTime::now())?;
        Ok(AcceptedTls(loaded))
    }

    /// Puts other settings into effect for the handshakes that follow.
    pub fn replace(&self, AcceptedTls(loaded): AcceptedTls) {
        self.exchange(&mut self.write_current(), loaded);
    }

    fn exchange(&self, current: &mut InUse, loaded: LoadedTls) {
        let former = &current.loaded;
        let is_same = (&former.settings, &former.chain, &former.authorities)
            == (&loaded.settings, &loaded.chain, &loaded.authorities);
        if is_same {
            return;
        }
        warn_of_expiry(&loaded, SystemTime::now());
        if !former.verifies_as(&loaded) {
            std::mem::take(&mut current.verification).end();
        }
        current.loaded = loaded;
        current.exchanges += 1;
        self.reloads.increment();
    }

    fn read_current(&self) -> RwLockReadGuard<'_, InUse> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_current(&self) -> RwLockWriteGuard<'_, InUse> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the settings in use.
    #[must_use]
    pub fn settings(&self) -> TlsSettings {
        self.read_current().loaded.settings.clone()
    }

    /// Returns the fields of the certificate in use; `None` if they are malformed.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateFields> {
        self.read_current().loaded.chain.first().and_then(CertificateFields::parse)
    }

    /// Returns the end of the certificate's validity in seconds since 1970, if it is known.
    #[must_use]
    pub fn expiry(&self) -> Option<u64> {
        self.read_current().loaded.expiry
    }

    /// Returns the numbers of exchanged certificates, and of reloads that failed.
    #[must_use]
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.get(), self.failed_reloads.get())
    }

    /// Returns the numbers of handshakes that were completed, and that failed.
    #[must_use]
    pub fn handshakes(&self) -> (u64, u64) {
        (self.handshakes.completed.get(), self.handshakes.failed.get())
    }

    /// Returns the configuration for a handshake, the demand for client certificates that it has, and for how long
    /// a client is verified by it.
    pub(super) fn config(&self) -> (Arc<ServerConfig>, ClientAuth, Verification) {
        let current = self.read_current();
        let LoadedTls { config, settings, .. } = &current.loaded;
        (Arc::clone(config), settings.client_auth, current.verification.clone())
    }

    /// Reads the files again, at the time `now`.
    pub(super) fn reload_at(&self, now: SystemTime) -> Result<(), TlsError> {
        let reload = self.begin_reload();
        let loaded = LoadedTls::read(reload.settings.clone())?;
        self.finish_reload(&reload, loaded, now)
    }

    pub(super) fn begin_reload(&self) -> PendingReload {
        let current = self.read_current();
        PendingReload { settings: current.loaded.settings.clone(), exchanges: current.exchanges }
    }

    /// Puts files into effect that a reload has read, unless other settings took effect in between: those were read
    /// later, and may demand more of clients.
    pub(super) fn finish_reload(
        &self,
        reload: &PendingReload,
        loaded: LoadedTls,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let mut current = self.write_current();
        if current.exchanges == reload.exchanges {
            check_expiry(&current.loaded, &loaded, now)?;
            let (warning, former) = (loaded.warning(), current.exchanges);
            self.exchange(&mut current, loaded);
            if let Some(warning) = warning.filter(|_| current.exchanges > former) {
                tracing::warn!("{warning}");
            }
        }
        Ok(())
    }
}

impl ReloadFiles for TlsServer {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn paths(&self) -> Vec<PathBuf> {
        let current = self.read_current();
        let TlsSettings { certificate, key, client_cas, .. } = &current.loaded.settings;
        [certificate, key].into_iter().chain(client_cas).cloned().collect()
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.reload_at(SystemTime::now()).map_err(|error| {
            self.failed_reloads.increment();
            error.into()
        })
    }
}

/// Refuses an expired certificate in place of one that has not expired.
fn check_expiry(current: &LoadedTls, next: &LoadedTls, now: SystemTime) -> Result<(), TlsError> {
    if next.has_expired(now) && !current.has_expired(now) {
        let path = next.settings.certificate.clone();
        return Err(TlsError::Expired { path, expiry: date(next.expiry) });
    }
    Ok(())
}

fn warn_of_expiry(loaded: &LoadedTls, now: SystemTime) {
    if loaded.has_expired(now) {
        let (file, expiry) = (loaded.settings.certificate.display(), date(loaded.expiry));
        tracing::warn!(%file, expiry, "certificate has expired, clients will refuse it");
    }
}

fn date(seconds: Option<u64>) -> String {
    let timestamp = seconds.and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
    timestamp.map(|timestamp| timestamp.to_string()).unwrap_or_default()
}
