//! Access to the stores: the arguments, the volume and the mount by which a registry asks them. Pure.
//!
//! Used for generations and for the stores themselves, which fetch from each other.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use crate::operator::naming;

/// Port of the Service, the same as that of the pods behind it.
pub(super) const PORT: u16 = 8080;

/// Folder of the file with names. A mounted folder is updated with its `ConfigMap`, a single file is not.
const NAMES_FOLDER: &str = "/etc/quinistry/names";

/// Name of the volume with the names.
const NAMES_VOLUME: &str = "names";

/// Option of `serve` that names peers.
const PEERS: &str = "--peers";

/// Returns the URL of the stores for an address of their Service; `None` for a text that is not an IP address,
/// such as that of a headless Service.
#[must_use]
pub(in crate::operator) fn url(cluster_ip: &str) -> Option<String> {
    let address: IpAddr = cluster_ip.parse().ok()?;
    Some(format!("http://{}", SocketAddr::new(address, PORT)))
}

/// Returns the arguments of a registry that asks the stores at `url`.
#[must_use]
pub(in crate::operator) fn arguments(url: &str) -> Vec<String> {
    vec![PEERS.into(), url.into(), "--names".into(), format!("{NAMES_FOLDER}/{}", naming::NAMES_KEY)]
}

/// Returns the URL of the stores in the arguments of a live `DaemonSet`.
#[must_use]
pub(in crate::operator) fn url_in(set: &Value) -> Option<String> {
    let arguments = set["template"]["spec"]["containers"][0]["args"].as_array()?;
    let at = arguments.iter().position(|argument| argument == PEERS)?;
    arguments.get(at + 1)?.as_str().map(str::to_owned)
}

/// Returns the volume with the names of a resource. Optional, since nothing may be named yet.
#[must_use]
pub(in crate::operator) fn volume(resource: &str) -> core::Volume {
    core::Volume {
        name: NAMES_VOLUME.into(),
        config_map: Some(core::ConfigMapVolumeSource {
            name: naming::names_map_name(resource),
            optional: Some(true),
            ..core::ConfigMapVolumeSource::default()
        }),
        ..core::Volume::default()
    }
}

/// Returns the mount of the volume.
#[must_use]
pub(in crate::operator) fn mount() -> core::VolumeMount {
    core::VolumeMount {
        name: NAMES_VOLUME.into(),
        mount_path: NAMES_FOLDER.into(),
        read_only: Some(true),
        ..core::VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{arguments, url, url_in};

    #[test]
    fn an_address_of_either_family_becomes_a_url() {
        assert_eq!(url("10.96.0.7").as_deref(), Some("http://10.96.0.7:8080"));
        assert_eq!(url("fd00::7").as_deref(), Some("http://[fd00::7]:8080"));
        assert_eq!((url("None"), url("")), (None, None));
    }

    #[test]
    fn the_url_is_found_in_the_arguments() {
        let set = |args| json!({"template": {"spec": {"containers": [{"args": args}]}}});
        assert_eq!(
            url_in(&set(json!(arguments("http://10.96.0.7:8080")))).as_deref(),
            Some("http://10.96.0.7:8080")
        );
        for args in [json!(["serve"]), json!(["serve", "--peers"]), json!(null)] {
            assert_eq!(url_in(&set(args)), None);
        }
    }
}
