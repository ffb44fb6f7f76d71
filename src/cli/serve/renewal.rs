//! Renewal of a certificate whose authority lies beside it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cli::tls::authority;
use crate::http::tls::{TlsServer, TlsSettings};

/// Time between two looks at the certificate's end.
const PERIOD: Duration = Duration::from_hours(6);

/// Renews a certificate before it is used. A failure is logged, and the certificate serves on. Blocks.
pub(super) fn renew(settings: &TlsSettings) {
    let TlsSettings { certificate, key, .. } = settings;
    match authority::renew(certificate, key, SystemTime::now()) {
        Ok(true) => tracing::info!(file = %certificate.display(), "certificate renewed"),
        Ok(false) => {}
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(file = %certificate.display(), error, "cannot renew certificate");
        }
    }
}

/// Renews the certificate of a listener as long as the registry serves. The watch of the files notices it.
pub(super) async fn keep(server: Arc<TlsServer>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let settings = server.settings();
        // Only the end of the runtime cancels the task.
        let _ = tokio::task::spawn_blocking(move || renew(&settings)).await;
    }
}
