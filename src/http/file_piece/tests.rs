use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::fs::{Advice, fadvise};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UnixStream};
use tokio::time::timeout;

use super::*;
use crate::response_state::TrackedService;
use crate::socket::{DeadlineSocket, Deadlines};
use crate::stream::SocketStream;
use crate::{Limits, Listener, bind, serve};

/// Far longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// File that may be sent for as long as it has its length and checks are left.
#[derive(Debug)]
struct TestFile {
    file: File,
    length: u64,
    checks_left: AtomicUsize,
    /// Bytes that were not sent of the last piece of each body that was dropped.
    dropped: Mutex<Vec<u64>>,
}

impl TestFile {
    fn new(bytes: &[u8]) -> Arc<Self> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (length, checks_left) = (bytes.len() as u64, AtomicUsize::new(usize::MAX));
        Arc::new(Self { file, length, checks_left, dropped: Mutex::default() })
    }

    /// Returns the bytes that were not sent of the last piece of a body, once one is dropped.
    async fn unsent(&self) -> u64 {
        loop {
            if let Some(unsent) = self.dropped.lock().unwrap().pop() {
                return unsent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns one offset of each block that is looked for in memory, and the last one.
    fn lone_offsets(&self) -> impl Iterator<Item = u64> {
        let blocks = (0..self.length).step_by(usize::try_from(PROBED_BLOCK_BYTES).unwrap());
        blocks.chain([self.length - 1])
    }

    /// Has the kernel forget the file. Returns false if its filesystem keeps pages, or does not tell which it
    /// has.
    fn forget(&self) -> bool {
        self.file.sync_all().unwrap();
        // Reads bring no more pages than those that they are of.
        fadvise(&self.file, 0, None, Advice::Random).unwrap();
        fadvise(&self.file, 0, None, Advice::DontNeed).unwrap();
        // Few places: the kernel begins to read what it is asked for.
        self.lone_offsets().all(|offset| is_cached_at(&self.file, offset).is_ok_and(|is_cached| !is_cached))
    }
}

impl SentFile for TestFile {
    fn file(&self) -> &File {
        &self.file
    }

    fn check(&self) -> io::Result<()> {
        let is_whole = self.file.metadata()?.len() == self.length
            && self.checks_left.fetch_sub(1, Ordering::Relaxed) > 0;
        if is_whole { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// Body of a part of a file, of pieces that the connection sends. What it does not send is read. When it is
/// dropped, it tells how many bytes were not sent.
struct FileBody {
    files: Option<FileSender>,
    file: Arc<TestFile>,
    left: Range<u64>,
    /// Gives copies of the placeholders.
    copies: bool,
}

impl Drop for FileBody {
    fn drop(&mut self) {
        let unsent = self.files.as_ref().map_or(0, FileSender::unsent);
        self.file.dropped.lock().unwrap().push(unsent);
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let range = this.left.start..this.left.end.min(this.left.start + FileSender::MAX_PIECE_BYTES as u64);
        this.left.start = range.end;
        let sent = this.files.as_ref().and_then(|files| files.send(this.file.clone(), range.clone()));
        let bytes = sent.map(|bytes| if this.copies { bytes.to_vec().into() } else { bytes });
        let bytes = bytes.unwrap_or_else(|| {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            this.file.file.read_exact_at(&mut bytes, range.start).unwrap();
            bytes.into()
        });
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

/// Answers with the part of a file that the path of a request names: `/FIRST-END`.
fn respond(file: &Arc<TestFile>, request: &Request, copies: bool) -> Response {
    let (first, end) = request.uri().path()[1..].split_once('-').expect("the path is a range");
    let left = first.parse().unwrap()..end.parse().unwrap();
    let files = request.extensions().get::<FileSender>().cloned();
    let length = left.end - left.start;
    let mut response = Response::new(Body::new(FileBody { files, file: file.clone(), left, copies }));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// Serves a file, and returns the address.
fn serve_file(file: &Arc<TestFile>, limits: Limits) -> SocketAddr {
    let listener = bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
    let address = listener.local_addr().unwrap();
    let file = file.clone();
    let app = tower::service_fn(move |request: Request| {
        let response = respond(&file, &request, false);
        async move { Ok::<_, Infallible>(response) }
    });
    tokio::spawn(serve(listener, app, limits, std::future::pending()));
    address
}

fn request(range: &Range<usize>) -> String {
    format!("GET /{}-{} HTTP/1.1\r\nHost: x\r\n\r\n", range.start, range.end)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Reads a response with a body of `length` bytes, and returns the body.
async fn body(client: &mut TcpStream, length: usize) -> Vec<u8> {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", head.escape_ascii());
        let mut body = vec![0; length];
        client.read_exact(&mut body).await.unwrap();
        body
    };
    timeout(PATIENCE, read).await.expect("the response is whole")
}

/// Bytes of which no two pages are equal.
fn bytes(length: usize) -> Vec<u8> {
    (1_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

/// Reads until the server ends the connection, and returns what it sent.
async fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A connection that is reset ends, too.
    let _ = timeout(PATIENCE, client.read_to_end(&mut all)).await.expect("the connection ends");
    all
}

#[tokio::test]
async fn every_range_of_a_file_arrives_as_it_is() {
    const PIECE: usize = FileSender::MAX_PIECE_BYTES;
    let bytes = bytes(3 * PIECE + 12_345);
    let file = TestFile::new(&bytes);
    let mut client = connect(serve_file(&file, Limits::default())).await;
    let edges =
        [0, 1, FileSender::MIN_PIECE_BYTES, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 4097, bytes.len()];
    for first in edges {
        for end in edges.into_iter().filter(|end| *end > first) {
            client.write_all(request(&(first..end)).as_bytes()).await.unwrap();
            assert!(body(&mut client, end - first).await == bytes[first..end], "{first}..{end}");
        }
    }
}

#[tokio::test]
async fn requests_that_come_at_once_are_answered_in_their_order() {
    let bytes = bytes(700_000);
    let file = TestFile::new(&bytes);
    let mut client = connect(serve_file(&file, Limits::default())).await;
    let ranges = [0..700_000, 5..6, 100..300_000, 650_000..700_000, 0..20_000];
    let requests: String = ranges.iter().map(request).collect();
    client.write_all(requests.as_bytes()).await.unwrap();
    for range in ranges {
        assert!(body(&mut client, range.len()).await == bytes[range]);
    }
}

#[tokio::test]
async fn many_clients_get_a_file_at_once() {
    let bytes = Arc::new(bytes(1_000_001));
    let file = TestFile::new(&bytes);
    let address = serve_file(&file, Limits::default());
    let clients: Vec<_> = (0..64)
        .map(|first| {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut client = connect(address).await;
                for _ in 0..4 {
                    client.write_all(request(&(first..bytes.len())).as_bytes()).await.unwrap();
                    assert!(body(&mut client, bytes.len() - first).await == bytes[first..]);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_not_in_memory_are_read_first() {
    let bytes = bytes(1_000_000);
    let file = TestFile::new(&bytes);
    if !file.forget() {
        return println!("skipped: this filesystem keeps its pages, or does not tell which it has");
    }
    let mut client = connect(serve_file(&file, Limits::default())).await;
    client.write_all(request(&(0..bytes.len())).as_bytes()).await.unwrap();
    assert!(body(&mut client, bytes.len()).await == bytes);
    assert!((0..file.length).step_by(4096).all(|offset| is_cached_at(&file.file, offset).unwrap()));
}

#[test]
fn lone_bytes_in_memory_do_not_show_those_between() {
    let length = MAX_PROBED_BYTES;
    let file = TestFile::new(&bytes(usize::try_from(length).unwrap()));
    if !file.forget() {
        return println!("skipped: this filesystem keeps its pages, or does not tell which it has");
    }
    for offset in file.lone_offsets() {
        file.file.read_exact_at(&mut [0], offset).unwrap();
    }
    let range = 0..length;
    assert!(cached_end(&file.file, &range).unwrap() < length);
    read(&file.file, range.clone()).unwrap();
    assert_eq!(cached_end(&file.file, &range).unwrap(), length);
}

#[test]
fn random_offsets_lie_within_their_range_and_differ() {
    let offsets: std::collections::HashSet<_> = (0..100).map(|_| random_offset(&(1000..1_000_000))).collect();
    assert!(offsets.len() > 50 && offsets.iter().all(|offset| (1000..1_000_000).contains(offset)));
    assert_eq!(random_offset(&(7..8)), 7);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_cuts_its_response_off() {
    let bytes = bytes(16 << 20);
    let file = TestFile::new(&bytes);
    let mut client = connect(serve_file(&file, Limits::default())).await;
    client.write_all(request(&(0..bytes.len())).as_bytes()).await.unwrap();
    let mut first = vec![0; 1 << 20];
    client.read_exact(&mut first).await.unwrap();
    file.file.set_len(bytes.len() as u64 - 1).unwrap();
    let all = [first, read_to_end(&mut client).await].concat();
    let head = all.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert!(all.len() < bytes.len(), "the response is cut off");
    assert!(bytes.starts_with(&all[head..]), "all bytes before its end are those of the file");
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_file() {
    let file = TestFile::new(&bytes(16 << 20));
    let mut client = connect(serve_file(&file, Limits::default())).await;
    client.write_all(request(&(0..16 << 20)).as_bytes()).await.unwrap();
    client.read_exact(&mut [0; 1000]).await.unwrap();
    assert!(Arc::strong_count(&file) > 2);
    drop(client);
    let freed = async {
        // The server's own, and that of the test, stay.
        while Arc::strong_count(&file) > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, freed).await.expect("the file is freed");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let bytes = bytes(16 << 20);
    let file = TestFile::new(&bytes);
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let address = serve_file(&file, limits);
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(4096).unwrap();
    let mut client = client.connect(address).await.unwrap();
    client.write_all(request(&(0..bytes.len())).as_bytes()).await.unwrap();
    let freed = async {
        while Arc::strong_count(&file) != 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    client.readable().await.unwrap();
    timeout(PATIENCE, freed).await.expect("the connection ends");
    assert!(read_to_end(&mut client).await.len() < bytes.len());
}

#[tokio::test]
async fn a_body_is_kept_until_its_last_piece_is_sent() {
    const PIECE: usize = FileSender::MAX_PIECE_BYTES;
    let bytes = bytes(PIECE);
    let file = TestFile::new(&bytes);
    let address = serve_file(&file, Limits::default());
    for leaves in [false, true] {
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let mut client = client.connect(address).await.unwrap();
        client.write_all(request(&(0..PIECE)).as_bytes()).await.unwrap();
        client.read_exact(&mut [0; 1000]).await.unwrap();
        timeout(Duration::from_millis(200), file.unsent()).await.unwrap_err();
        if leaves {
            drop(client);
        } else {
            client.read_exact(&mut vec![0; PIECE - 1000]).await.unwrap();
        }
        let unsent = timeout(PATIENCE, file.unsent()).await.expect("the body is dropped");
        assert_eq!(unsent > PIECE as u64 / 2, leaves, "{unsent}");
    }
}

#[tokio::test]
async fn a_response_of_a_file_that_changes_at_its_end_is_not_complete() {
    let file = TestFile::new(&bytes(FileSender::MIN_PIECE_BYTES));
    let address = serve_file(&file, Limits::default());
    for (checks, is_complete) in [(1, false), (usize::MAX, true)] {
        file.checks_left.store(checks, Ordering::Relaxed);
        let mut client = connect(address).await;
        client.write_all(request(&(0..FileSender::MIN_PIECE_BYTES)).as_bytes()).await.unwrap();
        if is_complete {
            body(&mut client, FileSender::MIN_PIECE_BYTES).await;
        } else {
            read_to_end(&mut client).await;
        }
        let unsent = timeout(PATIENCE, file.unsent()).await.expect("the body is dropped");
        assert_eq!(unsent == 0, is_complete, "{unsent}");
    }
}

/// Returns both ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = connect(listener.local_addr().unwrap()).await;
    (listener.accept().await.unwrap().0, client)
}

#[tokio::test]
async fn the_end_of_a_file_is_not_taken_for_a_full_socket() {
    let file = TestFile::new(&bytes(5000));
    let (stream, _client) = connection().await;
    stream.writable().await.unwrap();
    assert_eq!(try_send(&stream, &[IoSlice::new(b"head")], &file.file, 0..6000).unwrap(), (4, 5000));
    let error = try_send(&stream, &[], &file.file, 5000..6000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn the_head_does_not_wait_for_the_disk() {
    let state = ResponseState::new();
    let file = TestFile::new(&bytes(100_000));
    FileSender::new(state.clone()).send(file, 0..100_000).unwrap();
    let (stream, mut client) = connection().await;
    let mut pieces = PieceWriter { reading: Some(tokio::spawn(pending())), is_waiting_for_disk: false };
    let head = [IoSlice::new(b"he"), IoSlice::new(b"ad")];
    let sent = poll_fn(|cx| pieces.poll_send(cx, &stream, &head, &state)).await.unwrap();
    assert!(sent == 4 && !pieces.is_waiting_for_disk());
    let mut received = [0; 4];
    timeout(PATIENCE, client.read_exact(&mut received)).await.expect("the head arrives").unwrap();
    assert_eq!(&received, b"head");
    let is_pending = poll_fn(|cx| Poll::Ready(pieces.poll_send(cx, &stream, &[], &state).is_pending())).await;
    assert!(is_pending && pieces.is_waiting_for_disk());
    assert_eq!(state.unsent_of_piece(), 100_000);
    pieces.reading = None;
    let sent = poll_fn(|cx| pieces.poll_send(cx, &stream, &[], &state)).await.unwrap();
    assert_eq!(state.unsent_of_piece(), 100_000 - sent as u64);
}

/// Serves one connection by hyper itself, and returns what the client gets.
async fn received(file: &Arc<TestFile>, copies: bool, is_vectored: bool) -> (Vec<u8>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = connect(listener.local_addr().unwrap()).await;
    let (stream, _) = listener.accept().await.unwrap();
    let deadlines = Deadlines { head: PATIENCE, idle: PATIENCE, write: PATIENCE, min_write_bytes: 1 };
    let socket = DeadlineSocket::new(SocketStream::Tcp(stream), deadlines);
    let file = file.clone();
    let app = tower::service_fn(move |request: Request| {
        let response = respond(&file, &request, copies);
        async move { Ok::<_, Infallible>(response) }
    });
    let service = TowerToHyperService::new(TrackedService::new(app, socket.state(), true));
    let connection = hyper::server::conn::http1::Builder::new()
        .writev(is_vectored)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service);
    let server = tokio::spawn(connection);
    client.write_all(b"GET /0-100000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let all = read_to_end(&mut client).await;
    (all, server.await.unwrap().is_ok())
}

#[tokio::test]
async fn a_copy_of_a_placeholder_never_reaches_a_client() {
    let bytes = bytes(100_000);
    let file = TestFile::new(&bytes);
    let (all, is_whole) = received(&file, false, true).await;
    assert!(is_whole && all.ends_with(&bytes));
    // A body around the one that sends files copies what passes.
    assert_eq!(received(&file, true, true).await, (Vec::new(), false));
    // hyper copies what it passes on.
    assert_eq!(received(&file, false, false).await, (Vec::new(), false));
}

#[test]
fn a_placeholder_belongs_to_the_piece_that_waits() {
    let state = ResponseState::new();
    let files = FileSender::new(state.clone());
    let file = TestFile::new(&bytes(200_000));
    let placeholder = files.send(file.clone(), 0..100_000).unwrap();
    assert!(files.send(file.clone(), 100_000..200_000).is_none(), "one piece waits already");
    let find = |slices: &[&[u8]]| {
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        find_placeholder(state.piece().as_ref(), &slices).ok()
    };
    assert_eq!(find(&[b"head", &placeholder]), Some(Some(1)));
    assert_eq!(find(&[&placeholder, b"next"]), Some(Some(0)));
    assert_eq!(find(&[b"head"]), None);
    assert_eq!(find(&[&placeholder[..99_999]]), None);
    assert_eq!(find(&[&placeholder, &placeholder]), None);
    state.piece().as_mut().unwrap().has_begun = true;
    assert_eq!(find(&[b"head", &placeholder]), None);
    assert_eq!(find(&[&placeholder, b"next"]), Some(Some(0)));
    let slices = [IoSlice::new(&placeholder)];
    assert!(find_placeholder(None, &slices).is_err());
    assert_eq!(find_placeholder(None, &[IoSlice::new(b"head")]).unwrap(), None);
}

#[test]
fn pieces_of_other_lengths_are_read() {
    let files = FileSender::new(ResponseState::new());
    let file = TestFile::new(&bytes(2 << 20));
    let (least, most) = (FileSender::MIN_PIECE_BYTES as u64, FileSender::MAX_PIECE_BYTES as u64);
    assert!(files.send(file.clone(), 0..least - 1).is_none());
    assert!(files.send(file.clone(), 0..most + 1).is_none());
    assert!(files.send(file.clone(), 1..least + 1).is_none());
    assert!(files.send(file, 0..most).is_some());
}

#[test]
fn the_thread_that_may_block_finds_the_end_of_a_file() {
    let file = TestFile::new(&bytes(100_000));
    // The kernel may return 0 elsewhere, too.
    assert!(!is_cached_at(&file.file, 100_000).unwrap());
    assert_eq!(read(&file.file, 99_000..100_000).unwrap(), 100_000);
    let error = read(&file.file, 99_000..100_001).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn errors_of_files_differ_from_those_of_clients_and_of_a_shutdown() {
    for errno in [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::STALE, Errno::INVAL, Errno::NOSYS] {
        assert!(is_of_file(&errno.into()), "{errno}");
    }
    for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData] {
        assert!(is_of_file(&kind.into()), "{kind}");
    }
    for errno in [Errno::PIPE, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::NOTCONN] {
        assert!(!is_of_file(&errno.into()), "{errno}");
    }
    assert!(!is_of_file(&io::Error::other("the runtime is shut down")));
}

#[tokio::test]
async fn a_unix_socket_sends_no_files() {
    let app = tower::service_fn(|request: Request| async move {
        let sends = request.extensions().get::<FileSender>().is_some();
        Ok::<_, Infallible>(Response::new(Body::from(sends.to_string())))
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry.sock");
    let listener = Listener::unix(&path, Limits::default()).unwrap();
    tokio::spawn(serve(listener, app, Limits::default(), std::future::pending()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("false"), "{response}");
}
