//! Servers that `.ci/tools` installs.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpSocket;

/// A server on a port of loopback; ended when dropped.
pub(super) struct Server(Child);

impl Server {
    /// Starts a program that listens at an address. `None`, and a line that says so, if the program is neither in
    /// `PATH` nor in a folder of the cache of `.ci/tools`.
    pub(super) fn start(
        name: &str,
        folder: &str,
        address: SocketAddr,
        configure: impl FnOnce(&mut Command),
    ) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache =
            cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache"))).unwrap_or_default();
        let mut folders = env::split_paths(&path).chain([cache.join("quinistry/tools").join(folder)]);
        let Some(program) = folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
        else {
            let is_strict = env::var_os("QUINISTRY_TESTS_STRICT").is_some();
            assert!(!is_strict, "QUINISTRY_TESTS_STRICT is set, and this machine lacks {name}");
            println!("skipped: this test needs {name}");
            return None;
        };
        let mut command = Command::new(program);
        configure(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self(command.spawn().unwrap());
        while TcpStream::connect(address).is_err() {
            assert!(server.0.try_wait().unwrap().is_none(), "{name} ended");
            std::thread::yield_now();
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns an address that stays reserved until this process ends, for a server that sets `SO_REUSEADDR`. A bound
/// socket keeps the kernel from giving the port to another program or to a connection.
pub(super) fn reserved_address() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    Box::leak(Box::new(socket)).local_addr().unwrap()
}

/// Creates a folder in memory, if there is one.
pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
