//! Kubeconfigs of a story, made from its own: for another way to the API server, or for another user.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Kubeconfig with one cluster, whose content is JSON, and so YAML.
pub struct Kubeconfig(Value);

// === impl Kubeconfig ===

impl Kubeconfig {
    /// Reads the kubeconfig of the stories.
    pub fn read() -> Result<Self> {
        let path = std::env::var("KUBECONFIG").context("KUBECONFIG is not set")?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        Ok(Self(serde_saphyr::from_str(&text).with_context(|| format!("failed to parse {path}"))?))
    }

    /// Returns host and port of the API server.
    pub fn server(&self) -> Result<(String, u16)> {
        let url = self.0["clusters"][0]["cluster"]["server"].as_str().context("a cluster has a server")?;
        let uri: http::Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let host = uri.host().with_context(|| format!("{url} has no host"))?;
        Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
    }

    /// Leads to the API server through a proxy on this machine. The server's certificate is still that of its own host.
    pub fn through(mut self, proxy: SocketAddr) -> Result<Self> {
        let (host, _) = self.server()?;
        let cluster = &mut self.0["clusters"][0]["cluster"];
        cluster["server"] = json!(format!("https://{proxy}"));
        cluster["tls-server-name"] = json!(host);
        Ok(self)
    }

    /// Replaces the user by the owner of a token.
    pub fn with_token(mut self, token: &str) -> Self {
        self.0["users"][0]["user"] = json!({"token": token});
        self
    }

    /// Makes a namespace the one of commands that name none.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.0["contexts"][0]["context"]["namespace"] = json!(namespace);
        self
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.0.to_string())
            .with_context(|| format!("failed to write {}", path.display()))
    }
}
