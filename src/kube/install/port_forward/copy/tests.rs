//! Copies between two connections in memory; a test plays the API server on the one, the client on the other.

use std::sync::atomic::AtomicBool;

use tokio::io::{DuplexStream, duplex};

use super::super::frame::Frame;
use super::*;

const PORT: u16 = 8090;

/// Length of the buffer of each connection, in bytes: shorter than a frame.
const PIPE_BYTES: usize = 1000;

/// Frame of the data channel that has the port.
const HEADER: &[u8] = &[0x82, 3, 0, 0x9a, 0x1f];

/// Reads the frames of a client, without their masks.
struct Server {
    stream: DuplexStream,
    frames: BytesMut,
}

impl Server {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Returns the next frame of the client.
    async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = unmask(&mut self.frames) {
                return frame;
            }
            assert_ne!(self.stream.read_buf(&mut self.frames).await.unwrap(), 0);
        }
    }
}

/// Removes the first frame of a client, if it is whole.
fn unmask(bytes: &mut BytesMut) -> Option<Frame> {
    let second = *bytes.get(1)?;
    assert_eq!(second & 0x80, 0x80, "clients mask");
    let (header, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        length => (2, usize::from(length)),
    };
    if bytes.len() < header + 4 + length {
        return None;
    }
    let frame = bytes.split_to(header + 4 + length);
    let mask = &frame[header..header + 4];
    let payload: Vec<u8> =
        frame[header + 4..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut plain = FrameReader::default();
    plain.buffer.extend_from_slice(&frame[..1]);
    plain.buffer.extend_from_slice(&[126]);
    plain.buffer.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    if frame[0] & 8 != 0 {
        plain.buffer.truncate(1);
        plain.buffer.extend_from_slice(&[u8::try_from(length).unwrap()]);
    }
    plain.buffer.extend_from_slice(&payload);
    plain.next().unwrap()
}

/// Copies between a server and a client, which the test plays.
/// Returns whether bytes came from the port, and why the forward ended.
async fn between<F>(
    ping_interval: Duration,
    play: impl FnOnce(Server, DuplexStream) -> F,
) -> (bool, Option<ForwardError>)
where
    F: Future<Output = ()>,
{
    let ((remote, server), (local, client)) = (duplex(PIPE_BYTES), duplex(PIPE_BYTES));
    let server = Server { stream: server, frames: BytesMut::new() };
    let has_answered = AtomicBool::default();
    let on_data = || has_answered.store(true, Ordering::Relaxed);
    let (failure, ()) =
        tokio::join!(copy_with((remote, PORT), local, on_data, ping_interval), play(server, client));
    (has_answered.load(Ordering::Relaxed), failure)
}

#[tokio::test]
async fn bytes_go_both_ways_at_once() {
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let copied = between(PING_INTERVAL, async |mut server: Server, client| {
        server.send(HEADER).await;
        let (mut from, mut to) = split(client);
        let client = async {
            to.write_all(&sent).await.unwrap();
            let mut answer = vec![0; 200];
            from.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [b'a'; 200]);
            to.shutdown().await.unwrap();
        };
        let server = async {
            let mut came = Vec::new();
            while came.len() < sent.len() {
                let frame = server.next().await;
                assert_eq!((frame.opcode, frame.payload[0]), (Opcode::Binary, DATA_CHANNEL));
                came.extend_from_slice(&frame.payload[1..]);
            }
            assert!(came == sent);
            server.send(&[&[0x89, 2, 5, 6, 0x82, 126, 0, 201, 0][..], &[b'a'; 200]].concat()).await;
            assert_eq!(server.next().await.payload[..], [5, 6]);
            assert_eq!(server.next().await.opcode, Opcode::Close);
        };
        tokio::join!(client, server);
    })
    .await;
    assert!(matches!(copied, (true, None)), "{copied:?}");
}

#[tokio::test]
async fn what_came_before_an_end_reaches_the_client() {
    for end in [&[0x88, 0][..], &[]] {
        let copied = between(PING_INTERVAL, async |mut server: Server, mut client| {
            server.send(&[HEADER, &[0x82, 3, 0, 7, 8], end].concat()).await;
            drop(server);
            let mut came = Vec::new();
            client.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, [7, 8]);
        })
        .await;
        assert!(matches!(copied, (true, Some(ForwardError::Closed))), "{copied:?}");
    }
}

#[tokio::test]
async fn a_port_that_nothing_listens_on_is_named() {
    let report = [&[0x82, 3, 1, 0x9a, 0x1f, 0x82, 8, 1][..], b"refused"].concat();
    let copied = between(PING_INTERVAL, async |mut server: Server, mut client| {
        server.send(&[HEADER, &report].concat()).await;
        assert_eq!(client.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    })
    .await;
    assert!(!copied.0);
    assert_eq!(copied.1.unwrap().to_string(), "the kubelet says: refused");
}

#[tokio::test]
async fn a_server_without_a_sign_of_life_is_given_up() {
    let copied = between(Duration::from_millis(1), async |mut server: Server, _client| {
        server.send(HEADER).await;
        for _ in 0..MAX_SILENT_INTERVALS - 1 {
            assert_eq!(server.next().await.opcode, Opcode::Ping);
        }
        let mut rest = Vec::new();
        server.stream.read_to_end(&mut rest).await.unwrap();
    })
    .await;
    assert!(matches!(copied, (false, Some(ForwardError::Silent))), "{copied:?}");
}
