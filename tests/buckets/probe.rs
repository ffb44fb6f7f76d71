//! `quinistry storage probe`, as a user runs it.

use std::process::Output;

use quinistry_bucket::testing::{HonoredConditions, MemOptions};
use serde_json::Value;

use crate::support::process::{isolated_command, output};
use crate::support::server::PROGRAM;
use crate::support::stub_store::{Shape, StubOptions, StubStore};
use crate::support::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw};

/// Probes a bucket of a store that needs keys.
fn probe(bucket: &str, endpoint: &str, keys: [&str; 2], arguments: &[&str]) -> Output {
    let url = format!("s3://{bucket}/a/b?region=us-east-1&endpoint={endpoint}");
    let mut probe = isolated_command(PROGRAM);
    probe.env("AWS_ACCESS_KEY_ID", keys[0]).env("AWS_SECRET_ACCESS_KEY", keys[1]);
    output(probe.args(["storage", "probe", &url]).args(arguments)).unwrap()
}

fn error(probed: &Output) -> &str {
    assert_eq!(probed.status.code(), Some(1));
    let error = std::str::from_utf8(&probed.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn the_table_says_what_versitygw_can_do_and_nothing_stays_in_the_bucket() {
    let Some(store) = Versitygw::start() else { return };
    let endpoint = format!("http://{}", store.address);
    let keys = [ACCESS_KEY, SECRET_KEY];
    let text = probe(BUCKET, &endpoint, keys, &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.lines().all(|line| line.ends_with("  yes")), "{text}");
    let json = probe(BUCKET, &endpoint, keys, &["-o", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["url"], format!("s3://{BUCKET}/a/b?endpoint={endpoint}"));
    assert_eq!(json["findings"][0]["ability"], "create if absent");
    assert_eq!(json["findings"][0]["able"], true);
    assert_eq!(store.keys(""), [""; 0]);
}

#[test]
fn a_probe_that_cannot_write_says_why_and_shows_no_secret() {
    let Some(store) = Versitygw::start() else { return };
    let endpoint = format!("http://{}", store.address);
    let wrong = probe(BUCKET, &endpoint, [ACCESS_KEY, "hidden-secret"], &[]);
    assert!(error(&wrong).contains("403 SignatureDoesNotMatch"), "{}", error(&wrong));
    assert!(!error(&wrong).contains("hidden-secret"));
    let absent = probe("absent", &endpoint, [ACCESS_KEY, SECRET_KEY], &[]);
    assert!(error(&absent).contains("s3://absent/a/b") && error(&absent).contains("NoSuchBucket"));
}

#[test]
fn row_220_a_probe_names_the_condition_that_a_store_ignores() {
    let mut options = StubOptions::new(Shape::S3);
    options.mem = MemOptions { conditions: HonoredConditions::Nothing, ..options.mem };
    let stub = StubStore::with(options);
    let probed = probe("registry", &stub.endpoint(), ["AKIDSTUB", "stub-secret-key"], &[]);
    assert!(error(&probed).contains("the store ignores If-None-Match"), "{}", error(&probed));
}
