//! First lines of a registry's log: what is served where, and what to do next.

use std::net::{IpAddr, SocketAddr};

use super::plan::{ServePlan, StoragePlace};
use crate::cli::output;
use crate::http::client_address::TrustedProxies;
use crate::http::tls::CertificateFields;
use crate::http::{Listener, LocalAddress};
use crate::quine::{Quine, REPOSITORY};
use crate::registry::auth::htpasswd::CreatedUser;
use crate::registry::config::Config;

/// Means of clients to reach the registry.
#[derive(Debug)]
pub(super) struct Clients {
    /// True if clients log in.
    pub(super) has_users: bool,
    /// Certificate that clients see, if the listener has TLS and its fields can be read.
    pub(super) certificate: Option<CertificateFields>,
}

/// Port of HTTPS, which clients add themselves.
const HTTPS_PORT: u16 = 443;

/// Tells the user of a password file that was created. Not a line of the log, which others collect and keep.
pub(super) fn created_user(user: &CreatedUser, config: Option<&Config>) {
    let file = config.and_then(|config| config.users.htpasswd.as_ref());
    let file = file.map(|file| file.path.display().to_string()).unwrap_or_default();
    let CreatedUser { name, password } = user;
    output::complain(&format!(
        "quinistry: created password file {file} with user {name} and password {password}, which is shown only now"
    ));
}

/// Listeners of a registry.
#[derive(Debug)]
pub(super) struct Listeners<'a> {
    pub(super) public: &'a Listener,
    /// Listener that alone takes pushes.
    pub(super) push: Option<&'a Listener>,
    /// Listener for metrics and health.
    pub(super) debug: Option<&'a Listener>,
}

/// Logs that the registry serves, once its storage is open.
pub(super) fn serving(
    listeners: &Listeners<'_>,
    quine: &Quine,
    plan: &ServePlan,
    clients: &Clients,
) -> anyhow::Result<()> {
    let (storage, settings) = (plan.storage.as_ref(), &plan.live.settings);
    let address = listeners.public.local_address()?;
    let protocol = if plan.live.tls.is_some() { " over HTTPS" } else { "" };
    tracing::info!(%address, digest = %quine.digest(), "serving {REPOSITORY}{protocol}");
    let push_address = listeners.push.map(Listener::local_address).transpose()?;
    if let Some(inside) = listeners.debug {
        let inside = inside.local_address()?;
        tracing::info!(address = %inside, "serving metrics and health");
        if !is_local(&inside) {
            tracing::warn!(address = %inside, "everyone who reaches this address can read metrics and health");
        }
    }
    if let Some(peers) = &settings.peers {
        let peers = peers.names_of_peers().collect::<Vec<_>>().join(" ");
        tracing::info!(peers, "serving content of peers by digest");
    }
    warn_of_strangers(&address, plan, clients);
    let next = |command: String| match &address {
        LocalAddress::Tcp(_) => format!("next: {command}"),
        LocalAddress::Unix(_) => "next: let a proxy pass the requests of clients on to this socket".into(),
    };
    let host = host(&address, clients.certificate.as_ref());
    match storage {
        None => tracing::info!("{}", next(format!("docker pull {host}/{REPOSITORY}"))),
        Some(storage) => {
            let place = match &storage.place {
                StoragePlace::Memory { .. } => "memory".into(),
                StoragePlace::Folder(path) | StoragePlace::Bundle(path) => path.display().to_string(),
                StoragePlace::Bucket(options) => options.to_string(),
            };
            if settings.read_only {
                tracing::info!(storage = %place, "serving stored content, writes are refused");
            } else if let Some(address) = push_address {
                let load = match &address {
                    LocalAddress::Tcp(address) => format!("next: quinistry load FILE {address}"),
                    LocalAddress::Unix(_) => "writes elsewhere are refused".into(),
                };
                tracing::info!(storage = %place, %address, "taking pushes, {load}");
            } else {
                let push = format!("{}docker push {host}/NAME:TAG", login(&host, clients));
                tracing::info!(storage = %place, "{}", next(push));
            }
        }
    }
    Ok(())
}

/// Warns if clients that are not meant to can push, or read passwords.
fn warn_of_strangers(address: &LocalAddress, plan: &ServePlan, clients: &Clients) {
    if is_local(address) {
        return;
    }
    let takes_pushes = plan.storage.is_some() && !plan.live.settings.read_only && plan.push_listen.is_none();
    if takes_pushes && !clients.has_users {
        tracing::warn!(
            %address,
            "everyone who reaches this address can push, there are no users: name a file of passwords in \
             auth.htpasswd of a configuration, listen on 127.0.0.1, or add --read-only"
        );
    }
    let has_proxy = plan.live.trusted_proxies != TrustedProxies::default();
    if clients.has_users && plan.live.tls.is_none() && !has_proxy {
        tracing::warn!(
            %address,
            "passwords and tokens reach this address in clear: name a certificate in http.tls, or the proxy that \
             has one in quinistry.http.trustedproxies"
        );
    }
}

/// Returns the command that comes before a push, if there are users.
fn login(host: &str, clients: &Clients) -> String {
    if clients.has_users { format!("docker login {host}, then ") } else { String::new() }
}

/// Returns the host under which clients reach the address: with TLS a name that the certificate has, if there is one;
/// else the name of this machine for itself, or the address.
fn host(address: &LocalAddress, certificate: Option<&CertificateFields>) -> String {
    let LocalAddress::Tcp(address) = address else { return address.to_string() };
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let certified =
        certificate.filter(|certificate| !certificate.addresses.contains(&ip)).and_then(|certificate| {
            let name = certificate.dns_names.iter().find(|name| !name.starts_with('*')).cloned();
            name.or_else(|| certificate.addresses.first().map(bracketed))
        });
    let name = match certified {
        Some(name) => name,
        None if ip.is_unspecified() => "localhost".into(),
        None => bracketed(&ip),
    };
    match port {
        HTTPS_PORT if certificate.is_some() => name,
        port => format!("{name}:{port}"),
    }
}

/// Returns an address as URLs have it (RFC 3986, 3.2.2).
fn bracketed(ip: &IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(dns_names: &[&str], addresses: &[&str]) -> CertificateFields {
        CertificateFields {
            subject: None,
            issuer: None,
            dns_names: dns_names.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            not_before: 0,
            not_after: 0,
        }
    }

    fn host_at(address: &str, certificate: Option<&CertificateFields>) -> String {
        host(&LocalAddress::Tcp(address.parse().unwrap()), certificate)
    }

    #[test]
    fn the_host_without_tls_is_the_address_or_this_machine() {
        assert_eq!(host_at("127.0.0.1:5000", None), "127.0.0.1:5000");
        assert_eq!(host_at("0.0.0.0:443", None), "localhost:443");
        assert_eq!(host_at("[::]:5000", None), "localhost:5000");
        assert_eq!(host_at("[2001:db8::1]:5000", None), "[2001:db8::1]:5000");
    }

    #[test]
    fn the_host_with_tls_is_one_that_the_certificate_has() {
        let both = certificate(&["*.test", "registry.test"], &["192.0.2.1"]);
        assert_eq!(host_at("0.0.0.0:5000", Some(&both)), "registry.test:5000");
        assert_eq!(host_at("[::]:443", Some(&both)), "registry.test");
        assert_eq!(host_at("192.0.2.1:443", Some(&both)), "192.0.2.1");
        assert_eq!(host_at("[::ffff:192.0.2.1]:5000", Some(&both)), "192.0.2.1:5000");
        let address = certificate(&["*.test"], &["2001:db8::1"]);
        assert_eq!(host_at("0.0.0.0:5000", Some(&address)), "[2001:db8::1]:5000");
        assert_eq!(host_at("0.0.0.0:5000", Some(&certificate(&[], &[]))), "localhost:5000");
    }
}
