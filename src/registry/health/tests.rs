//! Tests of the checks, with intervals of a millisecond, and of the rule by which failures count.

use std::fs;

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use quinistry_http::Limits;
use quinistry_store::{Access, Filesystem, Memory, Store};
use tokio::net::TcpListener;

use super::*;
use crate::ClientTls;

const INTERVAL: Duration = Duration::from_millis(1);

fn tls() -> ClientTls {
    ClientTls {
        configuration: quinistry_client::default_configuration(),
        explain: |error| quinistry_client::TlsFault::find(error).map(|fault| fault.to_string()),
    }
}

fn check(probe: Probe, threshold: u32) -> Check {
    Check { name: "check".into(), probe, interval: INTERVAL, threshold }
}

/// Waits until the checks fail or not, and returns the message.
async fn until(health: &Health, is_failing: bool) -> Option<String> {
    let wait = async {
        while health.is_failing() != is_failing {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("the state changes");
    health.failures().remove("check")
}

#[tokio::test]
async fn a_file_takes_the_node_out_and_its_removal_brings_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("down");
    let health = Health::start([check(Probe::File(file.clone()), 1)]);
    assert!(!health.is_failing());
    fs::write(&file, "").unwrap();
    assert_eq!(until(&health, true).await.unwrap(), "file exists");
    fs::remove_file(&file).unwrap();
    assert_eq!(until(&health, false).await, None);
}

#[tokio::test]
async fn a_file_that_is_there_at_the_start_counts_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(Health::start([check(Probe::File(file.path().into()), 0)]).is_failing());
    assert!(!Health::start([check(Probe::File(file.path().into()), 2)]).is_failing());
}

#[tokio::test]
async fn a_check_that_starts_again_begins_with_what_is_known() {
    // A socket that does not listen keeps its port from others.
    let absent = tokio::net::TcpSocket::new_v4().unwrap();
    absent.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = absent.local_addr().unwrap().to_string();
    let refused = || check(Probe::Tcp { address: address.clone(), timeout: Duration::ZERO }, 1);
    let former = Health::start([refused()]);
    until(&former, true).await.unwrap();
    let health = Health::start_after(Some(&former), [refused()]);
    assert!(health.is_failing(), "no request is answered between the two");
    let other = Check { name: "other".into(), ..refused() };
    assert!(!Health::start_after(Some(&former), [other]).is_failing());
}

#[test]
fn failures_count_from_the_threshold_on_and_only_in_a_row() {
    let mut state = CheckState::new(&check(Probe::File("/x".into()), 3), &[]);
    let mut report = |results: &[bool]| {
        for is_success in results {
            state.report(if *is_success { Ok(()) } else { Err("down".into()) });
        }
        state.message.is_some()
    };
    assert!(!report(&[false, false]));
    assert!(!report(&[true, false, false]));
    assert!(report(&[false]));
    assert!(report(&[false]));
    assert!(!report(&[true]));
}

#[tokio::test]
async fn a_storage_without_its_folder_is_unhealthy() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Filesystem::open(folder.path(), Access::Write).unwrap(), false).unwrap();
    let away = folder.path().with_extension("away");
    let health = Health::start([check(Probe::Storage(store), 1)]);
    fs::rename(folder.path(), &away).unwrap();
    let message = until(&health, true).await.unwrap();
    assert!(message.contains("No such file"), "{message}");
    fs::rename(&away, folder.path()).unwrap();
    until(&health, false).await;
    let memory = Store::open(Memory::new(1 << 20), false).unwrap();
    assert!(RunningProbe::new(Probe::Storage(memory), INTERVAL).probe().await.is_ok());
}

#[tokio::test]
async fn a_tcp_server_must_accept_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut probe = RunningProbe::new(Probe::Tcp { address, timeout: Duration::ZERO }, INTERVAL);
    assert_eq!(probe.probe().await, Ok(()));
    drop(listener);
    let message = probe.probe().await.unwrap_err();
    assert!(message.contains("refused"), "{message}");
}

#[tokio::test]
async fn an_http_server_must_answer_head_with_the_expected_status_and_in_time() {
    let answer = |headers: HeaderMap| async move {
        if headers.contains_key("x-probe") { StatusCode::OK } else { StatusCode::IM_A_TEAPOT }
    };
    let app = Router::new()
        .route("/", get(answer))
        .route("/slow", get(std::future::pending::<StatusCode>))
        .route("/moved", get(|| async { axum::response::Redirect::to("/") }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(quinistry_http::serve(listener, app, Limits::default(), std::future::pending()));
    let probe = async |path: &str, headers: HeaderMap, status: StatusCode, timeout: Duration| {
        let uri = format!("http://{address}{path}");
        let probe = HttpProbe::new(&uri, headers, status, timeout, tls()).unwrap();
        RunningProbe::new(Probe::Http(Box::new(probe)), INTERVAL).probe().await
    };
    let with_header: HeaderMap = [("x-probe".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    assert_eq!(probe("/", with_header, StatusCode::OK, Duration::ZERO).await, Ok(()));
    assert_eq!(probe("", HeaderMap::new(), StatusCode::IM_A_TEAPOT, Duration::ZERO).await, Ok(()));
    assert_eq!(probe("/moved", HeaderMap::new(), StatusCode::SEE_OTHER, Duration::ZERO).await, Ok(()));
    let wrong = probe("/", HeaderMap::new(), StatusCode::OK, Duration::ZERO).await.unwrap_err();
    assert!(wrong.contains("418"), "{wrong}");
    let slow = probe("/slow", HeaderMap::new(), StatusCode::OK, Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(slow, "no answer within 10ms");
}

#[tokio::test]
async fn an_https_server_is_spoken_to_in_tls_and_its_fault_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(quinistry_http::serve(listener, Router::new(), Limits::default(), std::future::pending()));
    let probe = HttpProbe::new(&uri, HeaderMap::new(), StatusCode::OK, Duration::ZERO, tls()).unwrap();
    let message = RunningProbe::new(Probe::Http(Box::new(probe)), INTERVAL).probe().await.unwrap_err();
    assert!(message.starts_with("it speaks plain HTTP, and the request was TLS; "), "{message}");
}

#[test]
fn only_http_uris_are_probed() {
    for uri in ["example.com", "/path", "", "http://", "ftp://x/", "http:///x"] {
        let error = HttpProbe::new(uri, HeaderMap::new(), StatusCode::OK, Duration::ZERO, tls()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{uri:?} is not")), "{error}");
    }
}
