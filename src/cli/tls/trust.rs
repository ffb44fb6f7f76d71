//! Commands that make engines trust an authority, for pasting into a shell.

use std::fmt::Write as _;
use std::path::Path;

use super::files::{AUTHORITY, CERTIFICATE, KEY};
use super::host::Host;

/// Returns the text that `tls init` prints.
pub(super) fn instructions(folder: &Path, hosts: &[Host], port: u16) -> String {
    let file = |name: &str| quoted(&folder.join(name).display().to_string());
    let authority = file(AUTHORITY);
    let mut text = format!(
        "made {authority}, and a certificate of it for 90 days\n\
         \n\
         Copy ca.crt, and never ca.key, to each machine that pulls or pushes, and run there what its engine needs:\n",
    );
    let places: Vec<String> =
        hosts.iter().filter(|host| !host.is_wildcard()).map(|host| host.with_port(port)).collect();
    let mut section = |title: &str, lines: Vec<String>| {
        writeln!(text, "\n# {title}\n{}", lines.join("\n")).expect("writing to a string does not fail");
    };
    let install = |folder: &str, place: &String| {
        format!("sudo install -D -m 644 {authority} {}", quoted(&format!("{folder}/{place}/ca.crt")))
    };
    let in_folders = |folder: &str| places.iter().map(|place| install(folder, place)).collect::<Vec<_>>();
    section("Docker", in_folders("/etc/docker/certs.d"));
    section("podman, skopeo, buildah, CRI-O", in_folders("/etc/containers/certs.d"));
    let containerd = |place: &String| {
        let folder = format!("/etc/containerd/certs.d/{place}");
        let hosts = format!(r#"[host."https://{place}"]\n  ca = "{folder}/ca.crt"\n"#);
        [
            install("/etc/containerd/certs.d", place),
            format!("printf '{hosts}' | sudo tee {} >/dev/null", quoted(&format!("{folder}/hosts.toml"))),
        ]
    };
    section(
        "containerd and nerdctl (with config_path = \"/etc/containerd/certs.d\" in containerd's configuration)",
        places.iter().flat_map(containerd).collect(),
    );
    section(
        "The system, for curl, crane, regctl, helm and oras: Debian, Ubuntu, Alpine",
        vec![format!(
            "sudo install -m 644 {authority} /usr/local/share/ca-certificates/quinistry.crt && sudo update-ca-certificates"
        )],
    );
    section(
        "The system: Fedora, Red Hat",
        vec![format!(
            "sudo install -m 644 {authority} /etc/pki/ca-trust/source/anchors/quinistry.crt && sudo update-ca-trust"
        )],
    );
    let serve =
        format!("quinistry serve --listen :{port} --tls-cert {} --tls-key {}", file(CERTIFICATE), file(KEY));
    section(
        "Then, on the registry's machine; serve renews the certificate while ca.key lies beside it",
        vec![serve],
    );
    text
}

/// Quotes a word for a shell, if it needs that.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_a_command_for_each_host() {
        let hosts = ["reg.lan", "10.0.0.5", "fd00::1", "*.reg.lan"].map(|host| Host::parse(host).unwrap());
        let text = instructions(Path::new("/srv/it's"), &hosts, 5000);
        for line in [
            "sudo install -D -m 644 '/srv/it'\\''s/ca.crt' /etc/docker/certs.d/reg.lan:5000/ca.crt",
            "sudo install -D -m 644 '/srv/it'\\''s/ca.crt' '/etc/containers/certs.d/[fd00::1]:5000/ca.crt'",
            "printf '[host.\"https://10.0.0.5:5000\"]\\n  ca = \"/etc/containerd/certs.d/10.0.0.5:5000/ca.crt\"\\n' | \
             sudo tee /etc/containerd/certs.d/10.0.0.5:5000/hosts.toml >/dev/null",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains('*'), "a folder has no wildcard");
    }
}
