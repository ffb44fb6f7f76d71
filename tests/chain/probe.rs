//! `quinistry probe`, against a server that says what it is told to.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Output;

use crate::support::ports::reserved_address;
use crate::support::process::{command, output};
use crate::support::server::PROGRAM;

/// Answers each connection with the next status, and the last one for ever.
fn server(statuses: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let last = statuses.last().unwrap();
        for status in statuses.iter().chain(std::iter::repeat(last)) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            let answer = format!(
                "HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

fn probe(args: &[&str]) -> Output {
    let mut command = command(PROGRAM);
    // A probe speaks of the address itself, whatever proxies there are.
    command.arg("probe").args(args).env("http_proxy", "http://127.0.0.1:1");
    output(&mut command).unwrap()
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn success_is_told_in_one_line() {
    let url = server(&["204 No Content"]);
    let output = probe(&[&url]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{url}: 204 No Content\n"));
}

#[test]
fn anything_else_is_a_failure_and_redirects_are_not_followed() {
    for status in ["503 Service Unavailable", "404 Not Found", "302 Found"] {
        let url = server(Box::leak(Box::new([status])));
        assert_eq!(error(&probe(&[&url])), format!("quinistry: failed to probe {url}: {status}\n"));
    }
}

#[test]
fn an_address_where_nothing_listens_is_a_failure() {
    let free = reserved_address();
    let message = error(&probe(&[&format!("http://{free}/")]));
    assert!(message.starts_with(&format!("quinistry: failed to reach http://{free}/: ")), "{message}");
}

#[test]
fn it_goes_on_asking_as_long_as_it_is_told_to() {
    let url = server(&["503 Service Unavailable", "503 Service Unavailable", "200 OK"]);
    assert!(probe(&["--wait", "60", &url]).status.success());
    let url = server(&["503 Service Unavailable"]);
    assert!(error(&probe(&["--wait=1", &url])).contains(": 503 Service Unavailable"));
}

#[test]
fn what_is_no_url_is_a_mistake_in_the_command_line() {
    for url in ["localhost:8080", "/readyz", "ftp://localhost/", ""] {
        let output = probe(&[url]);
        assert_eq!(output.status.code(), Some(2), "{url}: {output:?}");
    }
}
