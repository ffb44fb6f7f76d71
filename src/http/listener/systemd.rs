//! Socket activation: the one listening socket that systemd passes to a service (`sd_listen_fds(3)`).

use std::io;
use std::net;
use std::os::fd::OwnedFd;
use std::os::unix;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::Listener;

/// Number of the first descriptor that systemd passes (`SD_LISTEN_FDS_START`).
const FIRST_DESCRIPTOR: i32 = 3;

/// Reason why the socket of systemd cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// A count that is not a number.
    #[error("LISTEN_FDS is {0:?}, which is not a number of sockets")]
    Count(String),
    /// Several sockets.
    #[error("systemd passed {0} sockets, and one can be served: keep one Listen… line in the socket unit")]
    Several(u32),
    /// A descriptor that accepts no connections.
    #[error(
        "the descriptor that systemd passed is not a listening stream socket: use ListenStream= in the socket unit, without Accept="
    )]
    NotListening,
    /// A socket of another family.
    #[error("the socket that systemd passed is neither TCP nor unix")]
    Family,
    /// A system call failed.
    #[error("failed to take the socket that systemd passed")]
    Io(#[from] io::Error),
}

/// Returns the socket that systemd passed to this process, if any.
pub(super) fn listener() -> Result<Option<Listener>, SystemdError> {
    let variable = |name| std::env::var(name).ok();
    if !is_passed(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id())? {
        return Ok(None);
    }
    from_descriptor(inherited::duplicate(FIRST_DESCRIPTOR)?).map(Some)
}

/// Returns true if the variables say that exactly one socket was passed to the process `own`.
fn is_passed(pid: Option<String>, count: Option<String>, own: u32) -> Result<bool, SystemdError> {
    // Other processes than the service inherit the variables as well.
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return Ok(false);
    }
    let Some(count) = count else { return Ok(false) };
    match count.parse() {
        Ok(0) => Ok(false),
        Ok(1) => Ok(true),
        Ok(several) => Err(SystemdError::Several(several)),
        Err(_) => Err(SystemdError::Count(count)),
    }
}

fn from_descriptor(descriptor: OwnedFd) -> Result<Listener, SystemdError> {
    let socket = Socket::from(descriptor);
    // Both fail for a descriptor that is not a socket.
    if !socket.is_listener().unwrap_or(false) || socket.r#type().ok() != Some(Type::STREAM) {
        return Err(SystemdError::NotListening);
    }
    socket.set_nonblocking(true)?;
    match socket.domain()? {
        Domain::IPV4 | Domain::IPV6 => Ok(TcpListener::from_std(net::TcpListener::from(socket))?.into()),
        Domain::UNIX => Ok(UnixListener::from_std(unix::net::UnixListener::from(socket))?.into()),
        _ => Err(SystemdError::Family),
    }
}

#[expect(unsafe_code, reason = "no safe call takes a descriptor by its number")]
mod inherited {
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};

    use rustix::io::{FdFlags, fcntl_setfd};

    /// Duplicates a descriptor that another process opened for this one. Child processes inherit neither.
    pub(super) fn duplicate(number: i32) -> io::Result<OwnedFd> {
        // SAFETY: the number is not -1, and nothing is closed or kept: the borrow lasts for two system calls,
        // which fail with EBADF if the number is not open.
        let inherited = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(inherited, FdFlags::CLOEXEC)?;
        inherited.try_clone_to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use tempfile::tempdir;

    use super::*;
    use crate::LocalAddress;

    #[test]
    fn only_the_process_that_systemd_names_takes_its_one_socket() {
        let passed = |pid: Option<&str>, count: Option<&str>| {
            is_passed(pid.map(Into::into), count.map(Into::into), 42).map_err(|error| error.to_string())
        };
        assert_eq!(passed(Some("42"), Some("1")), Ok(true));
        for (pid, count) in [
            (None, None),
            (None, Some("1")),
            (Some("42"), None),
            (Some("41"), Some("1")),
            (Some("x"), Some("1")),
            (Some("42"), Some("0")),
            (Some("41"), Some("x")),
        ] {
            assert_eq!(passed(pid, count), Ok(false), "{pid:?} {count:?}");
        }
        assert!(passed(Some("42"), Some("2")).unwrap_err().contains("2 sockets"));
        assert!(passed(Some("42"), Some("-1")).unwrap_err().contains("\"-1\""));
    }

    #[tokio::test]
    async fn tcp_and_unix_sockets_are_taken_and_others_are_refused() {
        let folder = tempdir().unwrap();
        let tcp = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = LocalAddress::Tcp(tcp.local_addr().unwrap());
        assert_eq!(from_descriptor(tcp.into()).unwrap().local_address().unwrap(), address);
        let path = folder.path().join("socket");
        let socket = unix::net::UnixListener::bind(&path).unwrap();
        let taken = from_descriptor(socket.into()).unwrap();
        assert_eq!(taken.local_address().unwrap(), LocalAddress::Unix(Some(path.clone())));
        drop(taken);
        assert!(path.exists(), "systemd removes its socket itself");
        let (one, _other) = unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open(folder.path()).unwrap();
        let datagram = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for descriptor in [OwnedFd::from(one), file.into(), datagram.into()] {
            assert!(matches!(from_descriptor(descriptor), Err(SystemdError::NotListening)));
        }
    }

    /// Variable that makes the test below the process to which the socket is passed.
    const CHILD: &str = "QUINISTRY_TEST_SOCKET";

    #[tokio::test]
    async fn a_process_serves_the_socket_that_it_was_started_with() {
        if let Some(address) = std::env::var_os(CHILD) {
            let found = Listener::from_systemd().unwrap().expect("a socket was passed");
            assert_eq!(found.local_address().unwrap().to_string().as_str(), address);
            return;
        }
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // The shell gives its process id to the program that replaces it, as systemd does.
        let output = Command::new("sh")
            .args(["-c", r#"exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "listener::systemd::tests::a_process_serves_the_socket_that_it_was_started_with",
            ])
            .env(CHILD, address)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
