//! First lines of a registry's log: what is served where, and what to do next.

use std::net::{IpAddr, SocketAddr};

use super::plan::{ServePlan, StoragePlace};
use crate::cli::output;
use crate::http::{Listener, LocalAddress};
use crate::quine::{Quine, REPOSITORY};
use crate::registry::auth::htpasswd::CreatedUser;
use crate::registry::config::Config;

/// Tells the user of a password file that was created. Not a line of the log, which others collect and keep.
pub(super) fn created_user(user: &CreatedUser, config: Option<&Config>) {
    let file = config.and_then(|config| config.users.htpasswd.as_ref());
    let file = file.map(|file| file.path.display().to_string()).unwrap_or_default();
    let CreatedUser { name, password } = user;
    output::complain(&format!(
        "quinistry: created password file {file} with user {name} and password {password}, which is shown only now"
    ));
}

/// Logs that the registry serves, once its storage is open.
pub(super) fn serving(
    listener: &Listener,
    debug_listener: Option<&Listener>,
    quine: &Quine,
    plan: &ServePlan,
    has_users: bool,
) -> anyhow::Result<()> {
    let (storage, settings) = (plan.storage.as_ref(), &plan.live.settings);
    let address = listener.local_address()?;
    let protocol = if plan.live.tls.is_some() { " over HTTPS" } else { "" };
    tracing::info!(%address, digest = %quine.digest(), "serving {REPOSITORY}{protocol}");
    if let Some(inside) = debug_listener {
        let inside = inside.local_address()?;
        tracing::info!(address = %inside, "serving metrics and health");
        if !is_local(&inside) {
            tracing::warn!(address = %inside, "everyone who reaches this address can read metrics and health");
        }
    }
    let next = |command: String| match &address {
        LocalAddress::Tcp(_) => format!("next: {command}"),
        LocalAddress::Unix(_) => "next: let a proxy pass the requests of clients on to this socket".into(),
    };
    let host = reachable(&address);
    match storage {
        None => tracing::info!("{}", next(format!("docker pull {host}/{REPOSITORY}"))),
        Some(storage) => {
            let place = match &storage.place {
                StoragePlace::Memory { .. } => "memory".into(),
                StoragePlace::Folder(folder) => folder.display().to_string(),
            };
            if settings.read_only {
                tracing::info!(storage = %place, "serving stored content, writes are refused");
            } else {
                tracing::info!(storage = %place, "{}", next(format!("docker push {host}/NAME:TAG")));
            }
        }
    }
    if storage.is_some() && !settings.read_only && !has_users && !is_local(&address) {
        tracing::warn!(
            %address,
            "everyone who reaches this address can push, there are no users: name a file of passwords in \
             auth.htpasswd of a configuration, listen on 127.0.0.1, or add --read-only"
        );
    }
    Ok(())
}

/// Returns the host under which a client on this machine reaches the address.
fn reachable(address: &LocalAddress) -> String {
    match address {
        LocalAddress::Tcp(address) if address.ip().is_unspecified() => {
            format!("localhost:{}", address.port())
        }
        address => address.to_string(),
    }
}

/// Returns true if only processes of this machine can connect.
fn is_local(address: &LocalAddress) -> bool {
    let is_loopback = |address: &SocketAddr| IpAddr::to_canonical(&address.ip()).is_loopback();
    match address {
        LocalAddress::Tcp(address) => is_loopback(address),
        LocalAddress::Unix(_) => true,
    }
}
