//! The measured programs, each as a cache of one upstream.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::process::{Process, free_address};

/// Program that pulls through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    Quinistry,
    Distribution,
}

// === impl Program ===

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::Quinistry, Self::Distribution];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quinistry => "quinistry",
            Self::Distribution => "distribution 3.1",
        }
    }

    /// Starts the program on an empty folder of a name, as a cache of `upstream`. Both read the same configuration.
    pub(crate) fn start(self, folder: &Path, name: &str, upstream: SocketAddr) -> Process {
        let proxy = format!("proxy: {{remoteurl: 'http://{upstream}'}}\n");
        serve(self.command(), &folder.join(format!("{name}-{self:?}")), &proxy)
    }

    fn command(self) -> Command {
        match self {
            Self::Quinistry => {
                let program = std::env::var_os("QUINISTRY");
                Command::new(program.expect("benches/upstreams/run names the program by QUINISTRY"))
            }
            Self::Distribution => Command::new("registry"),
        }
    }
}

/// Starts distribution as the upstream.
pub(crate) fn start_upstream(folder: &Path) -> Process {
    serve(Program::Distribution.command(), &folder.join("upstream"), "")
}

fn serve(mut command: Command, root: &Path, keys: &str) -> Process {
    let address = free_address();
    fs::create_dir(root).unwrap();
    let config = root.with_extension("yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: \
         '{}'}}}}\nhttp: {{addr: '{address}'}}\n{keys}",
        root.display()
    );
    fs::write(&config, text).unwrap();
    command.env("OTEL_TRACES_EXPORTER", "none").arg("serve").arg(&config);
    let process = Process::start(command, address);
    process.connect();
    process
}
