//! Unix socket with a path: replaces a stale file, and removes its own at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::Limits;

/// Reason why a unix socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// Another process listens.
    #[error("failed to listen on {}: another process listens there; stop it or choose another path", .0.display())]
    InUse(PathBuf),
    /// The path has a file that is not a socket, and perhaps of value.
    #[error("failed to listen on {}: the file is not a socket; choose another path or remove the file", .0.display())]
    NotSocket(PathBuf),
    /// A system call failed.
    #[error("failed to {action} {}", .path.display())]
    Io {
        /// Action that failed, as the beginning of a sentence about the path.
        action: &'static str,
        /// Path of the socket.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

/// File of a socket, removed on drop if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

/// Binds a new socket to `path` and listens. The process's umask says who may connect, which needs the permission
/// to write.
pub(super) fn bind(path: &Path, limits: Limits) -> Result<(UnixListener, SocketFile), UnixSocketError> {
    let failed = |action| {
        let path = path.to_owned();
        move |source| UnixSocketError::Io { action, path, source }
    };
    // The working directory may change before the file is removed.
    let absolute = std::path::absolute(path).map_err(failed("find"))?;
    remove_stale(&absolute)?;
    let address = SockAddr::unix(&absolute).map_err(failed("listen on"))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("listen on"))?;
    socket.bind(&address).map_err(failed("listen on"))?;
    let file = SocketFile { id: id(&absolute).map_err(failed("find"))?, path: absolute };
    socket.listen(super::backlog(limits)).map_err(failed("listen on"))?;
    socket.set_nonblocking(true).map_err(failed("listen on"))?;
    let listener = UnixListener::from_std(net::UnixListener::from(socket)).map_err(failed("listen on"))?;
    Ok((listener, file))
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket on which no process listens. Fails if the path has anything else.
fn remove_stale(path: &Path) -> Result<(), UnixSocketError> {
    let failed = |action, source| UnixSocketError::Io { action, path: path.into(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("listen on", error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(UnixSocketError::NotSocket(path.into()));
        }
        Ok(_) => {}
    }
    let connected = SockAddr::unix(path).and_then(|address| {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A listener with a full backlog would otherwise make this wait.
        probe.set_nonblocking(true)?;
        probe.connect(&address)
    });
    match connected {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(()) => return Err(UnixSocketError::InUse(path.into())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(UnixSocketError::InUse(path.into()));
        }
        Err(error) => return Err(failed("find out whether a process listens on", error)),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the stale socket", error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_a_killed_process_left_is_replaced() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("registry.sock");
        // std's listener leaves its file, whose mode follows the umask.
        drop(net::UnixListener::bind(&path).unwrap());
        let mode = || fs::metadata(&path).unwrap().mode();
        let of_umask = mode();
        let (_listener, file) = bind(&path, Limits::default()).unwrap();
        net::UnixStream::connect(&path).expect("the new socket listens");
        assert_eq!(mode(), of_umask, "the umask says who may connect");
        drop(file);
        assert!(!path.exists(), "the socket is removed at the end");
    }

    #[tokio::test]
    async fn a_socket_on_which_a_process_listens_stays() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("registry.sock");
        let _other = net::UnixListener::bind(&path).unwrap();
        let error = bind(&path, Limits::default()).unwrap_err();
        assert!(matches!(error, UnixSocketError::InUse(_)), "{error}");
        net::UnixStream::connect(&path).expect("the other process still listens");
    }

    #[tokio::test]
    async fn files_that_are_not_sockets_are_refused_and_stay() {
        let folder = tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "value").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        for path in [&file, &link, &folder.path().to_owned()] {
            let error = bind(path, Limits::default()).unwrap_err();
            assert!(matches!(error, UnixSocketError::NotSocket(_)), "{error}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"value");
        assert!(link.is_symlink());
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_an_error() {
        let folder = tempdir().unwrap();
        for path in [folder.path().join("x".repeat(200)), folder.path().join("missing/registry.sock")] {
            let error = bind(&path, Limits::default()).unwrap_err();
            assert!(matches!(error, UnixSocketError::Io { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("registry.sock");
        let (_listener, file) = bind(&path, Limits::default()).unwrap();
        let kept = folder.path().join("kept");
        // Keeps the inode in use, so that the successor has another one.
        fs::rename(&path, &kept).unwrap();
        let _successor = net::UnixListener::bind(&path).unwrap();
        drop(file);
        net::UnixStream::connect(&path).expect("the successor listens");
    }
}
