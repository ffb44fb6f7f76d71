//! Pages of a list that have no key and are not the last, as some stores send them where many keys were removed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use super::RUNTIME;
use super::gateway::client;
use crate::{Endpoint, ListingQuery, ObjectError, ObjectErrorKind, Objects as _, RootPrefix, S3, S3Keys};
use crate::{Listing, S3Options, Secret};

/// Page without a key, which names the next one by `token`.
fn empty_page(token: &str) -> String {
    let token = if token.is_empty() {
        String::new()
    } else {
        format!("<NextContinuationToken>{token}</NextContinuationToken>")
    };
    format!("<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>")
}

fn last_page() -> String {
    let object =
        "<Key>r/a/1</Key><LastModified>2013-05-24T00:00:00Z</LastModified><ETag>\"e\"</ETag><Size>3</Size>";
    format!(
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>{object}</Contents></ListBucketResult>"
    )
}

/// Starts a server that answers each request with the page of the continuation token in its target, and ends with the
/// test program.
fn serve(page: fn(token: Option<&str>) -> String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let target = lines.next().unwrap_or_default();
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let token = target.split_once("continuation-token=").map(|(_, rest)| rest);
            let body = page(token.and_then(|rest| rest.split(['&', ' ']).next()));
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    address
}

fn list(page: fn(token: Option<&str>) -> String) -> Result<Listing, ObjectError> {
    let keys = S3Keys { access_key: "a".into(), secret_key: Secret::new("s".into()), session_token: None };
    let options = S3Options {
        bucket: "bucket".into(),
        endpoint: Some(Endpoint::of_host(&format!("http://{}", serve(page)), false).unwrap()),
        path_style: true,
        keys: Some(keys),
        ..S3Options::default()
    };
    let bucket = S3::amazon(&options, &"r".parse::<RootPrefix>().unwrap(), client().into()).unwrap();
    RUNTIME.block_on(bucket.list(ListingQuery { prefix: "a/", after: Some("a/0"), limit: 10 }))
}

#[test]
fn empty_pages_before_the_last_are_passed_over() {
    let listing = list(|token| match token {
        None => empty_page("one"),
        Some("one") => empty_page("two"),
        Some(_) => last_page(),
    });
    let Listing { entries, is_truncated } = listing.unwrap();
    let keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((keys, is_truncated), (vec!["a/1"], false));
}

#[test]
fn a_list_that_cannot_go_on_is_an_error() {
    let pages: [fn(Option<&str>) -> String; 2] = [|_| empty_page(""), |_| empty_page("same")];
    for page in pages {
        let error = list(page).unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::Unknown, "{error}");
        assert!(error.to_string().contains("empty page"), "{error}");
    }
}
