//! Variables that Kubernetes and Docker set for other services.

use std::net::IpAddr;

/// Returns true if the kubelet has set this variable for a Service, here one whose name begins with
/// `registry`: `registry-auth` gives `REGISTRY_AUTH_SERVICE_HOST`, `REGISTRY_AUTH_PORT=tcp://10.0.0.1:80` and
/// `REGISTRY_AUTH_PORT_80_TCP_ADDR`. Kubernetes, `pkg/kubelet/envvars`; Docker's links have the same names.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    // REGISTRY_PORT and REGISTRY_SERVICE_HOST have nothing between the prefix and the suffix.
    let name = format!("_{name}");
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if name.ends_with("_SERVICE_HOST") {
        return value.parse::<IpAddr>().is_ok();
    }
    if let Some((_, port)) = name.rsplit_once("_SERVICE_PORT") {
        return (port.is_empty() || port.starts_with('_')) && is_number(value);
    }
    if name.ends_with("_PORT") && is_url {
        return true;
    }
    let Some((_, port)) = name.split_once("_PORT_").filter(|_| !name.ends_with("_PORT_")) else {
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

    #[test]
    fn links_of_services_are_told_from_settings() {
        for (name, value, expected) in [
            ("PORT", "tcp://10.96.0.7:5000", true),
            ("SERVICE_HOST", "10.96.0.7", true),
            ("SERVICE_PORT", "5000", true),
            ("SERVICE_PORT_HTTP", "5000", true),
            ("PORT_5000_TCP", "tcp://10.96.0.7:5000", true),
            ("PORT_5000_TCP_PROTO", "tcp", true),
            ("PORT_5000_TCP_PORT", "5000", true),
            ("PORT_5000_TCP_ADDR", "10.96.0.7", true),
            ("AUTH_SERVICE_HOST", "10.96.0.8", true),
            ("AUTH_SERVICE_PORT_HTTPS_ALT", "443", true),
            ("AUTH_PORT", "tcp://10.96.0.8:443", true),
            ("HTTP_PORT_80_TCP_PORT", "80", true),
            ("STORAGE_SERVICE_HOST", "fd00::7", true),
            ("REDIS_PORT_6379_TCP", "tcp://[fd00::7]:6379", true),
            ("HTTP_PORT_53_UDP_ADDR", "10.96.0.9", true),
            ("AUTH", "htpasswd", false),
            ("AUTH_HTPASSWD_PATH", "/auth/htpasswd", false),
            ("HTTP_ADDR", ":5000", false),
            ("PORT", "5000", false),
            ("SERVICE_HOST", "registry.example.com", false),
            ("SERVICE_PORT", "tcp://10.96.0.7:5000", false),
            ("PORT_5000_TCP", "5000", false),
            ("PORT_5000_TCP_NAME", "x", false),
            ("AUTH_TOKEN_SERVICE", "registry", false),
        ] {
            assert_eq!(is_service_link(name, value), expected, "{name}={value}");
        }
    }
}
