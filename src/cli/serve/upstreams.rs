//! Upstreams of a configuration, each with the adapter that asks it over HTTP.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::client::Secret;
use crate::registry::auth::regular_file;
use crate::registry::{InsecureUpstream, Upstream, UpstreamCredentials, UpstreamSettings, Upstreams};
use crate::upstream::{Insecure, Remote, RemoteCredentials, RemoteOptions};

/// Longest file with a password, in bytes.
const MAX_PASSWORD_BYTES: usize = 64 * 1024;

/// Makes the upstreams of a configuration; `None` if it has none. Reads files of passwords and authorities, and sends
/// no request.
pub(in crate::cli) fn upstreams(settings: &[UpstreamSettings]) -> anyhow::Result<Option<Arc<Upstreams>>> {
    if settings.is_empty() {
        return Ok(None);
    }
    let connect = |settings: &UpstreamSettings| -> anyhow::Result<_> {
        let remote = Remote::new(options(settings)?)?;
        Ok(Arc::new(remote) as Arc<dyn Upstream>)
    };
    Ok(Some(Arc::new(Upstreams::new(settings.to_vec(), connect)?)))
}

fn options(settings: &UpstreamSettings) -> anyhow::Result<RemoteOptions> {
    Ok(RemoteOptions {
        credentials: settings.credentials.as_ref().map(credentials).transpose()?.unwrap_or_default(),
        ca: settings.ca.clone(),
        insecure: match settings.insecure {
            InsecureUpstream::No => Insecure::No,
            InsecureUpstream::Private => Insecure::Private,
            InsecureUpstream::Public => Insecure::Public,
        },
        realms: settings.token_hosts.clone(),
        max_connections: settings.max_connections,
        ..RemoteOptions::new(settings.display_name(), settings.remote_url.to_string())
    })
}

fn credentials(credentials: &UpstreamCredentials) -> anyhow::Result<RemoteCredentials> {
    Ok(match credentials {
        UpstreamCredentials::Password { user, password } => {
            RemoteCredentials::Password { username: user.clone(), password: Secret::new(&*password.0) }
        }
        UpstreamCredentials::PasswordFile { user, path } => {
            RemoteCredentials::Password { username: user.clone(), password: read_password(path)? }
        }
        UpstreamCredentials::Helper { command, lifetime } => {
            RemoteCredentials::Exec { command: command.into(), lifetime: *lifetime }
        }
    })
}

/// Reads a password. The end of its line is no part of it.
fn read_password(path: &Path) -> anyhow::Result<Secret> {
    let failed = || format!("failed to read passwordfile {} of an upstream", path.display());
    let file = regular_file::read(path, MAX_PASSWORD_BYTES).with_context(failed)?;
    let text = String::from_utf8(file.bytes).map_err(|_| anyhow::anyhow!("the password is not UTF-8"));
    let text = text.with_context(failed)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(password.strip_suffix('\r').unwrap_or(password)))
}
