use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::*;
use crate::testing::Mem;
use crate::{Condition, ObjectErrorKind, Objects as _, Payload};

fn run<T>(request: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(request)
}

fn faulty(rates: FaultRates) -> Faulty<Mem> {
    Faulty::new(Mem::default(), FaultPlan::new(7, rates))
}

async fn put(bucket: &Faulty<Mem>, key: &str, condition: Condition<'_>) -> Result<(), ObjectErrorKind> {
    let put = bucket.put(key, "content".into(), condition).await;
    put.map(drop).map_err(|error| error.kind)
}

#[test]
fn a_scheduled_fault_spoils_the_requests_that_fit_it() {
    run(async {
        let bucket = faulty(FaultRates::default());
        let cases = [
            (Fault::Unavailable, ObjectErrorKind::Throttled, false),
            (Fault::Conflict, ObjectErrorKind::Conflict, false),
            (Fault::CutBody, ObjectErrorKind::Unknown, false),
            (Fault::ErrorInSuccess, ObjectErrorKind::Unknown, false),
            (Fault::ConflictAfterSuccess, ObjectErrorKind::Conflict, true),
            (Fault::ErrorAfterSuccess, ObjectErrorKind::Unknown, true),
            (Fault::UnavailableAfterSuccess, ObjectErrorKind::Throttled, true),
        ];
        for (fault, kind, is_done) in cases {
            bucket.plan().spoil(RequestKind::Put, "blobs/", fault, 1);
            put(&bucket, "links/1", Condition::Absent).await.unwrap();
            assert_eq!(put(&bucket, "blobs/1", Condition::Absent).await, Err(kind), "{fault:?}");
            assert_eq!(bucket.inner().bytes("blobs/1").is_some(), is_done, "{fault:?}");
            for key in ["links/1", "blobs/1"] {
                bucket.delete(key, Condition::Always, None).await.unwrap();
            }
        }
        assert_eq!(bucket.log().counts().of(RequestKind::Put), 14);
        assert_eq!(bucket.log().take().len(), 28);
        assert_eq!(bucket.log().counts().total(), 0);
    });
}

#[test]
fn a_cut_body_ends_with_an_error_in_its_middle() {
    run(async {
        let bucket = faulty(FaultRates::default());
        put(&bucket, "k", Condition::Always).await.unwrap();
        bucket.plan().spoil(RequestKind::Get, "k", Fault::CutBody, 1);
        let mut body = bucket.get("k", None, None).await.unwrap().body;
        assert_eq!(body.try_next().await.unwrap().unwrap(), "con");
        assert_eq!(body.try_next().await.unwrap_err().kind, ObjectErrorKind::Unknown);
        let whole: Vec<Bytes> = bucket.get("k", None, None).await.unwrap().body.try_collect().await.unwrap();
        assert_eq!(whole.concat(), b"content");
    });
}

#[test]
fn a_held_answer_comes_though_late() {
    run(async {
        let bucket = faulty(FaultRates::default());
        bucket.plan().spoil(RequestKind::Put, "", Fault::Held(Duration::from_hours(1)), 1);
        {
            let mut held = bucket.put("k", Payload::default(), Condition::Always);
            let is_pending =
                std::future::poll_fn(|context| Poll::Ready(held.as_mut().poll(context).is_pending()));
            assert!(is_pending.await);
        }
        assert!(bucket.inner().bytes("k").is_some());
        bucket.plan().spoil(RequestKind::Put, "", Fault::Held(Duration::from_millis(1)), 1);
        put(&bucket, "k", Condition::Always).await.unwrap();
    });
}

/// Numbers of the requests that fail, of 400 for 20 keys in an order.
fn failures(seed: u64, order: &[usize]) -> Vec<String> {
    run(async {
        let rates = FaultRates { unavailable: 0.3, error_after_success: 0.1, ..FaultRates::default() };
        let bucket = Faulty::new(Mem::default(), FaultPlan::new(seed, rates));
        let mut failed = Vec::new();
        for round in 0..20 {
            for key in order {
                if put(&bucket, &format!("k{key}"), Condition::Always).await.is_err() {
                    failed.push(format!("{round} {key}"));
                }
            }
        }
        failed.sort();
        failed
    })
}

#[test]
fn faults_by_probability_repeat_with_their_seed_in_any_order_of_keys() {
    let forwards: Vec<usize> = (0..20).collect();
    let backwards: Vec<usize> = (0..20).rev().collect();
    let failed = failures(1, &forwards);
    assert_eq!(failed, failures(1, &backwards));
    assert_ne!(failed, failures(2, &forwards));
    // 400 requests fail with a probability of 0.37.
    assert!((100..200).contains(&failed.len()), "{}", failed.len());
}

#[test]
fn a_plan_that_is_not_active_spoils_nothing() {
    run(async {
        let bucket = faulty(FaultRates { unavailable: 1.0, ..FaultRates::default() });
        assert!(put(&bucket, "k", Condition::Always).await.is_err());
        bucket.plan().set_active(false);
        put(&bucket, "k", Condition::Always).await.unwrap();
        bucket.plan().set_active(true);
        assert!(put(&bucket, "k", Condition::Always).await.is_err());
    });
}
