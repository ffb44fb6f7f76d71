//! Files of engines that name a mirror, in the formats of their documentation. Pure.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;

use super::Engine;
use super::place::{MirrorHost, Origin};

/// Mirror that engines are told of.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    /// Registry that mirrors.
    pub(super) host: MirrorHost,
    /// Registries that are mirrored.
    pub(super) origins: Vec<Origin>,
    /// Certificates of the authority of the mirror, in PEM.
    pub(super) authority: Option<String>,
    /// Engines ask the mirror alone.
    pub(super) no_fallback: bool,
}

/// File of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct EngineFile {
    /// Absolute path on a node.
    pub(super) path: String,
    pub(super) content: String,
}

/// Returns the files of an engine, and sentences about what they do not do.
pub(super) fn files_of(engine: Engine, mirror: &Mirror) -> (Vec<EngineFile>, Vec<String>) {
    let (files, mut notes) = match engine {
        Engine::Docker => docker(mirror),
        Engine::Containerd => containerd(mirror),
        Engine::Podman => (registries_conf(mirror), Vec::new()),
        Engine::Crio => (registries_conf(mirror), vec!["reload CRI-O by: systemctl reload crio".into()]),
        Engine::K3s => k3s(mirror),
        Engine::Talos => talos(mirror),
    };
    if !matches!(engine, Engine::Podman | Engine::Crio) {
        let renamed = mirror.origins.iter().filter(|origin| origin.has_own_prefix());
        notes.extend(renamed.map(|origin| {
            format!(
                "the prefix {} is not in the files: this engine sends ?ns={origin}, and the registry finds the \
                 prefix by it",
                origin.prefix()
            )
        }));
    }
    (files, notes)
}

/// Docker Engine reads the authorities of registries, and so of mirrors, from folders.
fn docker(mirror: &Mirror) -> (Vec<EngineFile>, Vec<String>) {
    let mut settings = json!({ "registry-mirrors": [mirror.host.url()] });
    if mirror.host.is_plain() {
        settings["insecure-registries"] = json!([mirror.host.host()]);
    }
    let mut files =
        vec![EngineFile { path: "/etc/docker/daemon.json".into(), content: format!("{settings:#}\n") }];
    files.extend(authority_file(mirror, "/etc/docker/certs.d"));
    let notes = vec![
        "reload Docker by: systemctl reload docker (SIGHUP to dockerd); no restart is needed".into(),
        "Docker asks a mirror for the images of Docker Hub by their own names, such as library/alpine: the registry \
         must be a mirror of Docker Hub as a whole (proxy.remoteurl, or an upstream with an empty prefix)"
            .into(),
        "other registries are not mirrored by Docker: pull their images by name, as HOST/ghcr.io/…".into(),
    ];
    (files, notes)
}

/// containerd's CRI plugin reads the folder if `config_path` names it, and looks at the files at each pull.
fn containerd(mirror: &Mirror) -> (Vec<EngineFile>, Vec<String>) {
    const FOLDER: &str = "/etc/containerd/certs.d";
    let authority = authority_file(mirror, FOLDER);
    let file_of = |origin: &Origin| {
        let server = if mirror.no_fallback { mirror.host.url() } else { origin.url() };
        let mut content = format!("server = {server:?}\n");
        let mut properties = "capabilities = [\"pull\", \"resolve\"]\n".to_owned();
        if let Some(file) = &authority {
            writeln!(properties, "ca = {:?}", file.path).expect("writing to a string does not fail");
        }
        if !mirror.no_fallback {
            write!(content, "\n[host.{:?}]\n", mirror.host.url()).expect("writing to a string does not fail");
        }
        content.push_str(&properties);
        if mirror.no_fallback {
            // Without a table of hosts, containerd 1.6 ignores the file, and asks the origin.
            content.push_str("\n[host]\n");
        }
        EngineFile { path: format!("{FOLDER}/{origin}/hosts.toml"), content }
    };
    let mut files: Vec<EngineFile> = mirror.origins.iter().map(file_of).collect();
    files.extend(authority);
    let note = format!(
        "containerd's configuration must name the folder: config_path = \"{FOLDER}\" below \
         io.containerd.cri.v1.images (2.x) or io.containerd.grpc.v1.cri (1.x), in its table `registry`; restart \
         containerd if you add it, and not after changes of the files in the folder"
    );
    (files, vec![note])
}

/// Podman, buildah, skopeo and CRI-O read the same files, and know folders of images at a mirror.
fn registries_conf(mirror: &Mirror) -> Vec<EngineFile> {
    let mut content = String::new();
    for origin in &mirror.origins {
        let place = format!("{}/{}", mirror.host.host(), origin.prefix());
        let space = if content.is_empty() { "" } else { "\n" };
        let location = if mirror.no_fallback { place.as_str() } else { origin.host() };
        write!(content, "{space}[[registry]]\nprefix = \"{origin}\"\nlocation = {location:?}\n")
            .expect("writing to a string does not fail");
        if !mirror.no_fallback {
            write!(content, "\n[[registry.mirror]]\nlocation = {place:?}\n")
                .expect("writing to a string does not fail");
        }
        if mirror.host.is_plain() {
            content.push_str("insecure = true\n");
        }
    }
    let path = "/etc/containers/registries.conf.d/50-quinistry.conf".into();
    let mut files = vec![EngineFile { path, content }];
    files.extend(authority_file(mirror, "/etc/containers/certs.d"));
    files
}

/// k3s and RKE2 make containerd's files of theirs at each start. JSON is YAML, and needs no rules for quoting.
fn k3s(mirror: &Mirror) -> (Vec<EngineFile>, Vec<String>) {
    let authority = mirror.authority.as_ref().map(|authority| EngineFile {
        path: "/etc/rancher/k3s/quinistry-ca.crt".into(),
        content: authority.clone(),
    });
    let mut content = String::from("mirrors:\n");
    for origin in &mirror.origins {
        write!(content, "  {:?}:\n    endpoint:\n      - {:?}\n", origin.host(), mirror.host.url())
            .expect("writing to a string does not fail");
    }
    if let Some(file) = &authority {
        write!(content, "configs:\n  {:?}:\n    tls:\n      ca_file: {:?}\n", mirror.host.host(), file.path)
            .expect("writing to a string does not fail");
    }
    let mut files = vec![EngineFile { path: "/etc/rancher/k3s/registries.yaml".into(), content }];
    files.extend(authority);
    let mut notes =
        vec!["restart k3s on the node; RKE2 reads /etc/rancher/rke2/registries.yaml instead".into()];
    if mirror.no_fallback {
        notes.push("start k3s with --disable-default-registry-endpoint, without which it falls back".into());
    }
    (files, notes)
}

/// Talos takes the machine configuration's part as a patch.
fn talos(mirror: &Mirror) -> (Vec<EngineFile>, Vec<String>) {
    let mut content = String::from("machine:\n  registries:\n    mirrors:\n");
    for origin in &mirror.origins {
        write!(
            content,
            "      {:?}:\n        endpoints:\n          - {:?}\n",
            origin.host(),
            mirror.host.url()
        )
        .expect("writing to a string does not fail");
        if mirror.no_fallback {
            content.push_str("        skipFallback: true\n");
        }
    }
    if let Some(authority) = &mirror.authority {
        let authority = STANDARD.encode(authority);
        write!(
            content,
            "    config:\n      {:?}:\n        tls:\n          ca: {authority}\n",
            mirror.host.host()
        )
        .expect("writing to a string does not fail");
    }
    let note = "apply it to each node: talosctl patch machineconfig --patch @quinistry-mirrors.yaml";
    (vec![EngineFile { path: "quinistry-mirrors.yaml".into(), content }], vec![note.into()])
}

/// Returns the file by which an engine trusts the mirror's authority, in its folder of the mirror's name.
fn authority_file(mirror: &Mirror, folder: &str) -> Option<EngineFile> {
    let content = mirror.authority.clone()?;
    Some(EngineFile { path: format!("{folder}/{}/ca.crt", mirror.host.host()), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    fn mirror(host: &str, origins: &[&str]) -> Mirror {
        let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        Mirror { host: host.parse().unwrap(), origins, authority: None, no_fallback: false }
    }

    /// Returns the text of the first file, and the paths of all.
    fn first(engine: Engine, mirror: &Mirror) -> (String, Vec<String>) {
        let (files, _) = files_of(engine, mirror);
        (files[0].content.clone(), files.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn dockers_file_is_json_and_names_what_has_no_tls() {
        let (content, paths) = first(Engine::Docker, &mirror("http://registry.lan:5000", &[]));
        let settings: serde_json::Value = serde_json::from_str(&content).unwrap();
        let expected = json!({
            "registry-mirrors": ["http://registry.lan:5000"],
            "insecure-registries": ["registry.lan:5000"]
        });
        assert_eq!(settings, expected);
        assert_eq!(paths, ["/etc/docker/daemon.json"]);
        let mut protected = mirror("registry.lan:5000", &[]);
        protected.authority = Some(AUTHORITY.into());
        let (content, paths) = first(Engine::Docker, &protected);
        assert!(!content.contains("insecure"), "{content}");
        assert_eq!(paths[1], "/etc/docker/certs.d/registry.lan:5000/ca.crt");
    }

    #[test]
    fn containerd_asks_the_mirror_first_or_alone() {
        let mut mirror = mirror("registry.lan:5000", &["docker.io", "quay.io"]);
        let (content, paths) = first(Engine::Containerd, &mirror);
        assert_eq!(
            content,
            "server = \"https://registry-1.docker.io\"\n\n\
             [host.\"https://registry.lan:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        let folder = "/etc/containerd/certs.d";
        assert_eq!(paths, [format!("{folder}/docker.io/hosts.toml"), format!("{folder}/quay.io/hosts.toml")]);
        mirror.no_fallback = true;
        mirror.authority = Some(AUTHORITY.into());
        let (content, paths) = first(Engine::Containerd, &mirror);
        assert_eq!(
            content,
            "server = \"https://registry.lan:5000\"\ncapabilities = [\"pull\", \"resolve\"]\n\
             ca = \"/etc/containerd/certs.d/registry.lan:5000/ca.crt\"\n\n[host]\n"
        );
        assert_eq!(paths[2], "/etc/containerd/certs.d/registry.lan:5000/ca.crt");
    }

    #[test]
    fn podman_finds_images_below_the_prefix() {
        let mut mirror = mirror("http://registry.lan:5000", &["docker.io=hub"]);
        let (content, _) = first(Engine::Podman, &mirror);
        assert_eq!(
            content,
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\n\
             [[registry.mirror]]\nlocation = \"registry.lan:5000/hub\"\ninsecure = true\n"
        );
        mirror.no_fallback = true;
        let (content, _) = first(Engine::Crio, &mirror);
        assert_eq!(
            content,
            "[[registry]]\nprefix = \"docker.io\"\nlocation = \"registry.lan:5000/hub\"\ninsecure = true\n"
        );
    }

    #[test]
    fn files_of_k3s_and_talos_are_yaml_with_the_authority() {
        let mut mirror = mirror("registry.lan:5000", &["docker.io", "ghcr.io"]);
        mirror.authority = Some(AUTHORITY.into());
        mirror.no_fallback = true;
        let yaml = |engine| -> serde_json::Value {
            let (content, _) = first(engine, &mirror);
            serde_saphyr::from_str(&content).unwrap()
        };
        let k3s = yaml(Engine::K3s);
        assert_eq!(k3s["mirrors"]["ghcr.io"]["endpoint"], json!(["https://registry.lan:5000"]));
        assert_eq!(
            k3s["configs"]["registry.lan:5000"]["tls"]["ca_file"],
            "/etc/rancher/k3s/quinistry-ca.crt"
        );
        let registries = &yaml(Engine::Talos)["machine"]["registries"];
        let expected = json!({ "endpoints": ["https://registry.lan:5000"], "skipFallback": true });
        assert_eq!(registries["mirrors"]["docker.io"], expected);
        let ca = registries["config"]["registry.lan:5000"]["tls"]["ca"].as_str().unwrap();
        assert_eq!(STANDARD.decode(ca).unwrap(), AUTHORITY.as_bytes());
    }

    #[test]
    fn a_prefix_that_an_engine_does_not_send_is_told() {
        let mirror = mirror("registry.lan", &["docker.io=hub"]);
        let notes = |engine| files_of(engine, &mirror).1.concat();
        for engine in [Engine::Containerd, Engine::K3s, Engine::Talos] {
            assert!(notes(engine).contains("the prefix hub is not in the files"), "{engine:?}");
        }
        assert!(!notes(Engine::Podman).contains("prefix"));
    }
}
