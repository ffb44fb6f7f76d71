//! Programs that `.ci/tools` installs.

use std::env;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::process::Process;

/// Time in which a server must have begun to listen. Far more than any takes.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Returns the path of a program: that in `PATH`, else that in a folder of the cache of `.ci/tools`.
pub fn find(program: &str, folder: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    let folders = env::split_paths(&path).chain([cache.join("quinistry/tools").join(folder)]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Waits until a server listens. `log` tells what the server wrote, for the case that it does not.
pub fn until_listening(process: &mut Process, address: SocketAddr, log: impl Fn() -> String) {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(process.is_running(), "the server at {address} ended: {}", log());
        assert!(begin.elapsed() < START_TIMEOUT, "the server at {address} does not listen: {}", log());
        std::thread::yield_now();
    }
}
