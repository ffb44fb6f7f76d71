//! Refusal of distribution's configuration, which `serve` does not support yet: a file, and `REGISTRY_*`
//! variables.
//!
//! They are refused and not ignored: a registry that was meant to ask for passwords must not start without.

use std::ffi::{OsStr, OsString};

use super::exit::UsageError;

/// Sections of distribution's configuration, `configuration/configuration.go` of versions 2.8 to 3.1, as
/// they begin the names of variables, and the variable that names the file.
const SECTIONS: &[&str] = &[
    "VERSION",
    "LOG",
    "LOGLEVEL",
    "STORAGE",
    "AUTH",
    "MIDDLEWARE",
    "REPORTING",
    "HTTP",
    "NOTIFICATIONS",
    "REDIS",
    "HEALTH",
    "CATALOG",
    "PROXY",
    "COMPATIBILITY",
    "POLICY",
    "VALIDATION",
    "TAG",
    "CONFIGURATION_PATH",
];

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    serve: super::serve::Args,

    /// Distribution's configuration file
    #[arg(hide = true, value_name = "CONFIG", value_hint = clap::ValueHint::FilePath)]
    config: Option<OsString>,
}

impl Args {
    /// Returns the options of `serve`, if all of them are understood.
    pub(super) fn accept(self) -> Result<super::serve::Args, UsageError> {
        match self.config {
            Some(file) => Err(UsageError(refusal(&file))),
            None => Ok(self.serve),
        }
    }
}

/// Says what to do in place of giving a configuration file.
pub(super) fn refusal(file: &OsStr) -> String {
    format!(
        "configuration files are not supported yet, and {} was not read: use options, for example \
         `quinistry serve --storage DIR --listen ADDR:PORT`",
        super::sanitize(&file.to_string_lossy())
    )
}

/// Fails if a variable of the environment configures distribution.
pub(super) fn ensure_no_variables() -> Result<(), UsageError> {
    let Some(name) = std::env::vars_os().find_map(|(name, value)| configures(name, &value)) else {
        return Ok(());
    };
    Err(UsageError(format!(
        "{name} is set, which configures distribution's registry and is not supported yet: unset it, and use options \
         such as --storage and --listen"
    )))
}

/// Returns the variable's name, if the variable configures distribution.
fn configures(name: OsString, value: &OsStr) -> Option<String> {
    let name = name.into_string().ok()?;
    let rest = name.strip_prefix("REGISTRY_")?;
    let is_section = |section: &str| {
        rest.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    (SECTIONS.iter().any(|section| is_section(section)) && !is_service_link(rest, &value.to_string_lossy()))
        .then_some(name)
}

/// Returns true if the kubelet has set this variable for a Service, here one whose name begins with
/// `registry`: `registry-auth` gives `REGISTRY_AUTH_SERVICE_HOST`, `REGISTRY_AUTH_PORT=tcp://10.0.0.1:80` and
/// `REGISTRY_AUTH_PORT_80_TCP_ADDR`. Kubernetes, `pkg/kubelet/envvars`.
fn is_service_link(rest: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if rest.ends_with("_SERVICE_HOST") {
        return value.parse::<std::net::IpAddr>().is_ok();
    }
    if let Some((_, name)) = rest.rsplit_once("_SERVICE_PORT") {
        return (name.is_empty() || name.starts_with('_')) && is_number(value);
    }
    if rest.ends_with("_PORT") && is_url {
        return true;
    }
    let Some((_, port)) = rest.rsplit_once("_PORT_") else {
        // None of the three cuts REGISTRY_…_PORT_80_TCP_PORT at its second PORT.
        return false;
    };
    let mut parts = port.split('_');
    parts.next().is_some_and(is_number)
        && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        && match parts.next() {
            None => is_url,
            Some("PROTO" | "ADDR" | "PORT") => parts.next().is_none(),
            Some(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(name: &str, value: &str) -> bool {
        configures(name.into(), value.as_ref()).is_some()
    }

    #[test]
    fn what_configures_distribution_is_refused() {
        for (name, value) in [
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
            ("REGISTRY_HTTP_ADDR", ":5000"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/tls.crt"),
            ("REGISTRY_HTTP_HOST", "https://r.example.com"),
            ("REGISTRY_STORAGE", "s3"),
            ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/r"),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
            ("REGISTRY_PROXY_REMOTEURL", "https://registry-1.docker.io"),
            ("REGISTRY_LOG_LEVEL", "debug"),
            ("REGISTRY_LOGLEVEL", "debug"),
            ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", "http://x"),
            ("REGISTRY_REDIS_ADDR", "r:6379"),
            ("REGISTRY_VALIDATION_DISABLED", "true"),
            ("REGISTRY_CONFIGURATION_PATH", "/c.yml"),
            ("REGISTRY_AUTH_TOKEN_SERVICE", "registry"),
            ("REGISTRY_AUTH", ""),
        ] {
            assert!(is_refused(name, value), "{name}");
        }
    }

    #[test]
    fn service_links_and_strangers_are_not() {
        for (name, value) in [
            ("REGISTRY_PORT", "tcp://10.96.0.7:5000"),
            ("REGISTRY_SERVICE_HOST", "10.96.0.7"),
            ("REGISTRY_SERVICE_PORT", "5000"),
            ("REGISTRY_SERVICE_PORT_HTTP", "5000"),
            ("REGISTRY_PORT_5000_TCP", "tcp://10.96.0.7:5000"),
            ("REGISTRY_PORT_5000_TCP_PROTO", "tcp"),
            ("REGISTRY_PORT_5000_TCP_PORT", "5000"),
            ("REGISTRY_PORT_5000_TCP_ADDR", "10.96.0.7"),
            ("REGISTRY_AUTH_SERVICE_HOST", "10.96.0.8"),
            ("REGISTRY_AUTH_SERVICE_PORT_HTTPS_ALT", "443"),
            ("REGISTRY_AUTH_PORT", "tcp://10.96.0.8:443"),
            ("REGISTRY_HTTP_PORT_80_TCP_PORT", "80"),
            ("REGISTRY_STORAGE_SERVICE_HOST", "fd00::7"),
            ("REGISTRY_REDIS_PORT_6379_TCP", "tcp://[fd00::7]:6379"),
            ("REGISTRY_HTTP_PORT_53_UDP_ADDR", "10.96.0.9"),
            ("REGISTRY_URL", "https://x"),
            ("REGISTRY_PASSWORD", "x"),
            ("REGISTRY_HTTPS", "1"),
            ("REGISTRY", "x"),
            ("MY_REGISTRY_AUTH", "x"),
        ] {
            assert!(!is_refused(name, value), "{name}");
        }
    }
}
