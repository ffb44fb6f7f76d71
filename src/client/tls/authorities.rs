//! The machine's certificate authorities.

use std::sync::LazyLock;

use rustls::pki_types::CertificateDer;

/// Certificates of the machine's store: `SSL_CERT_FILE` and `SSL_CERT_DIR`, else the places where distributions
/// keep it. A machine without a store has none; a certificate that cannot be read is left out.
///
/// Read once in a process, at the first TLS connection: a store has some 150 certificates, and most commands
/// towards registries on loopback need none.
pub(super) static OF_THE_MACHINE: LazyLock<Vec<CertificateDer<'static>>> =
    LazyLock::new(|| rustls_native_certs::load_native_certs().certs);
