//! Detection of clients that left while their request waits.
//!
//! A request may wait for memory or its turn. Nothing reads its body during that time, so the end of the
//! connection behind unread bytes would not be noticed, and its place would stay taken until the wait ends.
//! Bodies of unknown length are not covered.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;

/// Socket that can tell whether its client left.
pub(crate) trait DetectDeparture {
    /// Returns true if the client left: the connection was reset, or the client has ended it and fewer than
    /// `missing` bytes of its request are still to be read.
    fn has_departed(&self, missing: u64) -> bool;
}

/// Looks at the socket itself: returns true if the connection was reset, or the client has ended it and fewer than
/// `missing` bytes are still to be read.
pub(super) fn has_departed(socket: impl AsFd, missing: u64) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
    // With no time to wait, the call only asks for the state.
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
        return false;
    }
    let found = fds[0].revents();
    found.intersects(PollFlags::HUP | PollFlags::ERR)
        || (found.contains(PollFlags::RDHUP)
            && ioctl_fionread(&socket).is_ok_and(|available| available < missing))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    async fn departs(server: &TcpStream, missing: u64) {
        let departed = async {
            while !has_departed(server, missing) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), departed).await.expect("the departure is noticed");
    }

    #[tokio::test]
    async fn a_client_that_sent_part_of_its_request_and_closed_has_departed() {
        let (mut client, server) = pair().await;
        client.write_all(&[b'x'; 100]).await.unwrap();
        server.readable().await.unwrap();
        assert!(!has_departed(&server, 101), "the client is still there");
        drop(client);
        departs(&server, 101).await;
        assert!(!has_departed(&server, 100), "the whole request was sent");
    }

    #[tokio::test]
    async fn a_client_that_reset_the_connection_has_departed() {
        let (client, mut server) = pair().await;
        server.write_all(b"unread").await.unwrap();
        client.readable().await.unwrap();
        // Unread bytes make the kernel reset the connection.
        drop(client);
        departs(&server, 0).await;
    }

    #[tokio::test]
    async fn a_client_of_a_unix_socket_that_closed_has_departed() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&[b'x'; 100]).await.unwrap();
        assert!(!has_departed(&server, 101), "the client is still there");
        drop(client);
        assert!(has_departed(&server, 101), "part of the request is missing");
    }
}
