//! Network of a generation on its node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Network of the generations on their nodes.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// `HostPort` maps a port of the node to the pod; `HostNetwork` listens on the node's loopback, for
    /// clusters whose network plugin does not serve host ports on localhost. `HostPort` by default.
    pub mode: NetworkMode,

    /// Address of the node on which host ports answer: 127.0.0.1 by default, or 0.0.0.0 for all addresses.
    /// The registry asks no client for credentials. The next generation is pulled from localhost in either
    /// case.
    #[serde(rename = "hostIP")]
    #[schemars(length(max = 15), regex(pattern = r"^(127\.0\.0\.1|0\.0\.0\.0)$"))]
    pub host_ip: String,
}

impl Default for Network {
    fn default() -> Self {
        Self { mode: NetworkMode::HostPort, host_ip: "127.0.0.1".into() }
    }
}

/// Path from a port of the node to the pod.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// The network plugin forwards the port to the pod.
    #[default]
    HostPort,
    /// The pod uses the node's network.
    HostNetwork,
}
