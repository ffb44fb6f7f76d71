//! A push whose connection breaks, behind nginx with https in front: the client asks how far it came and goes on.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::process::Stdio;

use crate::attempt::Attempt;
use crate::clients::curl;
use crate::machine::Machine;
use crate::matrix::prepare_tls;
use crate::program::lacks;
use crate::proxy::{LOCATION, NGINX, start_nginx};
use crate::registry::{ALICE, Given, NAME, Program, Registry, start};
use crate::session::Session;
use crate::support::process::spawn;

const MEBIBYTE: u64 = 1 << 20;

/// An upload session, by its path.
struct Upload<'a> {
    session: &'a Session<'a>,
    blob: &'a str,
    path: String,
}

impl Upload<'_> {
    fn url(&self) -> String {
        self.session.registry.url(&self.path)
    }

    fn part(&self, offset: u64, bytes: u64) -> impl std::io::Read {
        let mut blob = File::open(self.blob).unwrap();
        blob.seek(SeekFrom::Start(offset)).unwrap();
        blob.take(bytes)
    }

    /// Takes the next path of the session, which has neither scheme nor host, whatever the proxy is.
    fn follow(&mut self, head: &str) {
        field(head, "location").expect("an upload has a location").clone_into(&mut self.path);
        assert!(self.path.starts_with("/v2/"), "{head}");
    }

    /// Sends the head of a chunk with all of the blob from an offset on, then `bytes` of it, and leaves.
    fn break_off(&self, offset: u64, length: u64, bytes: u64) {
        use base64::Engine as _;

        let user = self.session.user_and_password().expect("a session with a login");
        let user = base64::engine::general_purpose::STANDARD.encode(user);
        let mut client =
            self.session.command("openssl", &["s_client", "-quiet", "-no_ign_eof", "-nocommands"]);
        client.args(["-connect", &self.session.registry.host, "-servername", NAME]);
        let mut client = spawn(client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
        let mut stdin = client.stdin.take().unwrap();
        let head = format!(
            "PATCH {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {user}\r\nContent-Length: {}\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            self.path,
            self.session.registry.host,
            length - offset
        );
        stdin.write_all(head.as_bytes()).unwrap();
        std::io::copy(&mut self.part(offset, bytes), &mut stdin).unwrap();
        drop(stdin);
        client.wait().unwrap();
    }

    /// Asks how many bytes there are.
    fn offset(&mut self) -> u64 {
        let head = self.head(&[&self.url()]);
        let range = field(&head, "range").unwrap_or_else(|| panic!("an upload has a range: {head}"));
        let end: u64 = range.strip_prefix("0-").unwrap().parse().unwrap();
        self.follow(&head);
        // An empty session says `0-0`, too, and no test stops after one byte.
        if end == 0 { 0 } else { end + 1 }
    }

    /// Sends the next chunk.
    fn send(&mut self, offset: u64, bytes: u64) {
        let chunk = self.session.path("chunk");
        std::io::copy(&mut self.part(offset, bytes), &mut File::create(&chunk).unwrap()).unwrap();
        let range = format!("Content-Range: {offset}-{}", offset + bytes - 1);
        let head =
            self.head(&["--request", "PATCH", "--header", &range, "--upload-file", &chunk, &self.url()]);
        self.follow(&head);
    }

    /// Returns the head of a response, which must be a success.
    fn head(&self, arguments: &[&str]) -> String {
        let whole = [&["--dump-header", "-", "--output", "/dev/null"], arguments].concat();
        let asked: Attempt = self.session.attempt(curl(self.session, &whole));
        asked.allowed();
        asked.stdout().to_owned()
    }
}

/// Value of a header field of the last response.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().rev().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Writes a blob of incompressible bytes, no two mebibytes of which are alike. Returns its digest.
fn write_blob(machine: &Machine, path: &str, length: u64) -> String {
    let mut file = File::create(path).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..length / MEBIBYTE {
        let words = (0..MEBIBYTE / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        file.write_all(&words.collect::<Vec<u8>>()).unwrap();
    }
    format!("sha256:{}", sha256sum(machine, path))
}

fn sha256sum(machine: &Machine, path: &str) -> String {
    machine.run("sha256sum", &[path]).split(' ').next().unwrap().to_owned()
}

/// Pushes a blob in chunks, with a connection that breaks in the middle of one.
fn resume_behind_nginx(length: u64, chunk: u64) {
    if lacks(&[NGINX, "openssl"]) {
        return;
    }
    let mut machine = Machine::start();
    prepare_tls(&machine);
    let more = "quinistry: {http: {trustedproxies: [127.0.0.0/8]}}\n";
    start(&mut machine, Given { program: Program::Ours, port: 5000, is_tls: false, tls: "", http: "", more });
    let registry: Registry = start_nginx(&mut machine, LOCATION);
    let session = Session::new(&machine, &registry, Some(ALICE), "resumed");
    let blob = session.path("blob");
    let digest = write_blob(&machine, &blob, length);

    let mut upload = Upload { session: &session, blob: &blob, path: "/v2/team/app/blobs/uploads/".into() };
    let opened = upload.head(&["--request", "POST", &upload.url()]);
    upload.follow(&opened);
    upload.send(0, chunk);
    upload.break_off(chunk, length, length / 2 - chunk);
    // The registry notices the end of the connection, keeps what came, and lets go of the session.
    let offset = machine.until("the end of the broken chunk", || {
        let offset = upload.offset();
        (offset > chunk).then_some(offset)
    });
    assert!(offset <= length / 2, "{offset}");
    println!("{offset} bytes of {} were there after the break", length / 2);
    let mut next = offset;
    while next < length {
        let bytes = chunk.min(length - next);
        upload.send(next, bytes);
        next += bytes;
    }
    let mark = if upload.path.contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}digest={digest}", upload.url());
    let put = upload.head(&["--request", "PUT", &url]);
    assert_eq!(field(&put, "location"), Some(&*format!("/v2/team/app/blobs/{digest}")), "{put}");

    let pulled = session.path("pulled");
    let url = registry.url(&format!("/v2/team/app/blobs/{digest}"));
    session.attempt(curl(&session, &["--output", &pulled, &url])).allowed();
    assert_eq!(fs::metadata(&pulled).unwrap().len(), length);
    assert_eq!(format!("sha256:{}", sha256sum(&machine, &pulled)), digest);
}

#[test]
fn a_push_through_nginx_goes_on_where_its_connection_broke() {
    resume_behind_nginx(24 * MEBIBYTE, 5 * MEBIBYTE);
}

#[test]
#[ignore = "moves a gigabyte; cargo test --test users -- --ignored --nocapture five_hundred"]
fn a_push_of_five_hundred_mebibytes_through_nginx_goes_on_where_its_connection_broke() {
    resume_behind_nginx(500 * MEBIBYTE, 64 * MEBIBYTE);
}
