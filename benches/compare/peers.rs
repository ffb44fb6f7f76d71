//! The compared programs and their starts: each as its own documentation recommends for production, and
//! without features that the others do not have (request log, tracing, access control).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::process::{Process, free_address};

/// Demands of a server on its clients, by files; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Protection<'a> {
    /// Certificate and key.
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
    /// An htpasswd file.
    pub(crate) passwords: Option<&'a Path>,
}

impl Protection<'_> {
    /// Part of the names of configuration files.
    fn name(self) -> &'static str {
        match (self.tls, self.passwords) {
            (Some(_), _) => "tls",
            (None, Some(_)) => "passwords",
            (None, None) => "open",
        }
    }
}

/// A compared program. The order is that of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    Quinistry,
    DockerRegistry,
    Distribution,
    Crane,
    /// Not a registry: shows how fast the same bytes can be read from the same disk.
    Nginx,
    /// Not a registry: shows how fast the same bytes can be written.
    Dd,
}

/// Peers that accept pushes.
pub(crate) const REGISTRIES: &[Peer] =
    &[Peer::Quinistry, Peer::DockerRegistry, Peer::Distribution, Peer::Crane];

/// Peers that keep everything in a folder of distribution's layout.
pub(crate) const PERSISTENT: &[Peer] = &[Peer::Quinistry, Peer::DockerRegistry, Peer::Distribution];

/// Peers that answer GET.
pub(crate) const SERVERS: &[Peer] =
    &[Peer::Quinistry, Peer::DockerRegistry, Peer::Distribution, Peer::Crane, Peer::Nginx];

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quinistry => "quinistry",
            Self::DockerRegistry => "docker-registry",
            Self::Distribution => "distribution",
            Self::Crane => "crane",
            Self::Nginx => "nginx",
            Self::Dd => "dd",
        }
    }

    /// Name of the program in PATH; the path of our own is an option.
    fn program(self) -> &'static str {
        match self {
            Self::Distribution => "registry",
            other => other.name(),
        }
    }

    /// Returns true if the program is installed.
    pub(crate) fn is_installed(self) -> bool {
        self == Self::Quinistry || self.path().is_some()
    }

    /// Returns the path of the program, if it is in PATH.
    pub(crate) fn path(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(self.program())).find(|file| file.is_file())
    }

    /// Starts the program on a folder.
    pub(crate) fn start(self, quinistry: &Path, folder: &Path) -> Process {
        let address = free_address();
        Process::start(self.command(quinistry, folder, address), address)
    }

    /// Starts the program on a folder, all registries with the same file of distribution's form, and for reading
    /// only, so that two may serve one folder. Panics for programs that cannot protect.
    pub(crate) fn start_protected(
        self,
        quinistry: &Path,
        folder: &Path,
        protection: Protection<'_>,
    ) -> Process {
        let address = free_address();
        let listen = address.to_string();
        let program = if self == Self::Quinistry { quinistry } else { Path::new(self.program()) };
        let mut command = Command::new(program);
        match self {
            Self::Quinistry | Self::DockerRegistry | Self::Distribution => {
                let config = beside(folder, &format!("{}.yml", protection.name()));
                let text = distribution(folder, &listen, protection);
                let text = text.replace("maintenance: {", "maintenance: {readonly: {enabled: true}, ");
                fs::write(&config, text).unwrap();
                command.env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(config);
            }
            Self::Nginx => {
                let config = beside(folder, &format!("{}.conf", protection.name()));
                fs::write(&config, nginx(folder, &listen, protection)).unwrap();
                command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr"]);
            }
            Self::Crane | Self::Dd => panic!("{} protects nothing", self.name()),
        }
        Process::start(command, address)
    }

    fn command(self, quinistry: &Path, folder: &Path, address: SocketAddr) -> Command {
        let listen = address.to_string();
        let program = if self == Self::Quinistry { quinistry } else { Path::new(self.program()) };
        let mut command = Command::new(program);
        match self {
            Self::Quinistry => command.args(["serve", "--listen", &listen, "--storage"]).arg(folder),
            Self::DockerRegistry | Self::Distribution => {
                let config = beside(folder, "yml");
                fs::write(&config, distribution(folder, &listen, Protection::default())).unwrap();
                // By default distribution looks for a collector of traces on this machine.
                command.env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(config)
            }
            Self::Crane => command.args(["registry", "serve", "--address", &listen, "--disk"]).arg(folder),
            Self::Nginx => {
                let config = beside(folder, "conf");
                fs::write(&config, nginx(folder, &listen, Protection::default())).unwrap();
                command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr"])
            }
            Self::Dd => panic!("dd serves nothing"),
        };
        command
    }
}

/// Returns the path of a file beside a folder, named like the folder.
fn beside(folder: &Path, extension: &str) -> PathBuf {
    folder.with_extension(extension)
}

fn distribution(folder: &Path, listen: &str, protection: Protection<'_>) -> String {
    let tls = protection.tls.map_or_else(String::new, |(certificate, key)| {
        let (certificate, key) = (certificate.display(), key.display());
        format!(", tls: {{certificate: '{certificate}', key: '{key}', minimumtls: tls1.3}}")
    });
    let auth = protection.passwords.map_or_else(String::new, |file| {
        format!("auth: {{htpasswd: {{realm: compare, path: '{}'}}}}\n", file.display())
    });
    format!(
        "version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: '{}'}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: '{listen}', secret: compare{tls}}}
{auth}",
        folder.display()
    )
}

fn nginx(folder: &Path, listen: &str, protection: Protection<'_>) -> String {
    let tls = protection.tls.map_or_else(String::new, |(certificate, key)| {
        let (certificate, key) = (certificate.display(), key.display());
        format!(" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3")
    });
    let scratch = beside(folder, "nginx");
    fs::create_dir_all(&scratch).unwrap();
    let scratch = scratch.display();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {scratch}/pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  sendfile on;
  tcp_nopush on;
  access_log off;
  keepalive_requests 100000000;
  default_type application/vnd.oci.image.manifest.v1+json;
  client_body_temp_path {scratch}; proxy_temp_path {scratch}; fastcgi_temp_path {scratch};
  uwsgi_temp_path {scratch}; scgi_temp_path {scratch};
  server {{ listen {listen}{tls}; root {}; }}
}}
",
        folder.display()
    )
}
