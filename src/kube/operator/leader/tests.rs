use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::jiff::Timestamp;

use super::candidate::{LeaseAction, LeaseCandidate};
use super::{BootInstant, LEASE_DURATION, Leadership, RENEW_PERIOD, WRITE_WINDOW, WriteFence, WriteGuard};
use crate::operator::error::Category;

/// Fake API server: a write of the last version succeeds and creates a new one.
#[derive(Default)]
struct FakeLeaseServer {
    lease: Option<Lease>,
    version: u32,
}

impl FakeLeaseServer {
    fn write(&mut self, mut lease: Lease) -> bool {
        let now = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if lease.metadata.resource_version != now {
            return false;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        true
    }

    fn try_once(&mut self, candidate: &mut LeaseCandidate, now: BootInstant) -> bool {
        match candidate.step(self.lease.clone(), now, Timestamp::UNIX_EPOCH) {
            LeaseAction::Create(lease) | LeaseAction::Replace(lease) => self.write(lease),
            LeaseAction::Wait(_) => false,
        }
    }

    fn spec(&self) -> LeaseSpec {
        self.lease.clone().and_then(|lease| lease.spec).unwrap_or_default()
    }
}

fn candidate(name: &str) -> LeaseCandidate {
    LeaseCandidate::new(name.into(), LEASE_DURATION)
}

#[test]
fn the_first_candidate_leads_as_long_as_it_renews() {
    let mut server = FakeLeaseServer::default();
    let (mut first, mut second) = (candidate("first"), candidate("second"));
    let mut now = BootInstant::now();
    for _ in 0..100 {
        assert!(server.try_once(&mut first, now));
        assert!(!server.try_once(&mut second, now));
        now = now + RENEW_PERIOD;
    }
    let spec = server.spec();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("first"), Some(0)));
}

#[test]
fn a_silent_leader_is_replaced_within_sixteen_seconds() {
    let mut server = FakeLeaseServer::default();
    let (mut first, mut second) = (candidate("first"), candidate("second"));
    let silent = BootInstant::now();
    assert!(server.try_once(&mut first, silent));
    // In the worst case the Lease is read just before each of these moments.
    let mut now = silent + RENEW_PERIOD;
    while !server.try_once(&mut second, now) {
        now = now + RENEW_PERIOD;
    }
    let waited = now.since(silent);
    assert!(waited > LEASE_DURATION && waited <= Duration::from_secs(16), "{waited:?}");
    assert_eq!(server.spec().lease_transitions, Some(1));
    // The first candidate may not have noticed.
    assert!(!server.try_once(&mut first, now + Duration::from_mins(1)));
}

#[test]
fn clocks_of_others_are_not_believed() {
    let mut server = FakeLeaseServer::default();
    let mut first = candidate("first");
    let now = BootInstant::now();
    // Its clock says 1970, which is long ago.
    assert!(server.try_once(&mut first, now));
    assert!(!server.try_once(&mut candidate("second"), now));
}

#[test]
fn a_holder_may_ask_for_more_time_but_not_for_ever() {
    for (asked, waited) in [(Some(30), 30), (Some(i32::MAX), 60), (Some(1), 12), (Some(-1), 12), (None, 12)] {
        let spec = LeaseSpec {
            holder_identity: Some("first".into()),
            lease_duration_seconds: asked,
            ..LeaseSpec::default()
        };
        let mut server = FakeLeaseServer::default();
        assert!(server.write(Lease { spec: Some(spec), ..Lease::default() }));
        let (mut second, begin) = (candidate("second"), BootInstant::now());
        assert!(!server.try_once(&mut second, begin));
        assert!(!server.try_once(&mut second, begin + Duration::from_secs(waited - 1)), "{asked:?}");
        assert!(server.try_once(&mut second, begin + Duration::from_secs(waited)), "{asked:?}");
    }
}

#[test]
fn only_one_of_several_candidates_takes_an_expired_lease() {
    let mut server = FakeLeaseServer::default();
    let (mut second, mut third) = (candidate("second"), candidate("third"));
    let now = BootInstant::now();
    assert!(server.try_once(&mut candidate("first"), now));
    for one in [&mut second, &mut third] {
        assert!(!server.try_once(one, now));
    }
    let seen = server.lease.clone();
    let steps = [&mut second, &mut third]
        .map(|one| one.step(seen.clone(), now + LEASE_DURATION, Timestamp::UNIX_EPOCH));
    let wins = steps.into_iter().filter_map(|step| match step {
        LeaseAction::Create(lease) | LeaseAction::Replace(lease) => Some(lease),
        LeaseAction::Wait(_) => None,
    });
    assert_eq!(wins.map(|lease| server.write(lease)).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut server = FakeLeaseServer::default();
    let first = &mut candidate("first");
    let now = BootInstant::now();
    assert!(server.try_once(first, now));
    let lease = server.lease.clone().unwrap();
    assert_eq!(candidate("second").release(lease.clone(), Timestamp::UNIX_EPOCH), None, "it is not its own");
    let free = first.release(lease, Timestamp::UNIX_EPOCH).unwrap();
    assert!(server.write(free));
    assert!(server.try_once(&mut candidate("second"), now));
}

#[test]
fn a_container_that_was_restarted_goes_on_leading() {
    let mut server = FakeLeaseServer::default();
    let now = BootInstant::now();
    assert!(server.try_once(&mut candidate("pod"), now));
    assert!(server.try_once(&mut candidate("pod"), now));
    assert_eq!(server.spec().lease_transitions, Some(0));
}

#[test]
fn a_gap_between_two_renewals_is_noticed() {
    let leadership = Leadership::elected();
    let soon = || BootInstant::now() + WRITE_WINDOW;
    assert!(leadership.extend_until(soon()), "it has just come to lead");
    assert!(!leadership.extend_until(soon()), "renewed in time");
    leadership.extend_until(BootInstant::now());
    assert!(leadership.extend_until(soon()), "it had run out");
    leadership.give_up();
    assert!(leadership.extend_until(soon()), "it was contested");
    assert!(!Leadership::sole().extend_until(soon()));
}

#[tokio::test]
async fn work_that_wakes_up_too_late_is_not_gone_on_with() {
    let leadership = Leadership::elected();
    assert!(!leadership.holds());
    let polled = std::cell::Cell::new(0);
    let work = || {
        std::future::poll_fn(|_| {
            polled.set(polled.get() + 1);
            std::task::Poll::Ready(())
        })
    };
    assert!(leadership.during(work()).await.is_err());
    leadership.extend_until(BootInstant::now());
    assert!(leadership.during(work()).await.is_err());
    assert_eq!(polled.get(), 0, "not even begun");
    leadership.extend_until(BootInstant::now() + WRITE_WINDOW);
    assert!(leadership.during(work()).await.is_ok());
}

#[tokio::test]
async fn work_is_dropped_when_its_time_is_over_and_not_before() {
    let leadership = Leadership::elected();
    let never = std::future::pending::<()>;
    leadership.extend_until(BootInstant::now() + Duration::from_millis(50));
    assert!(leadership.during(never()).await.is_err(), "it has run out");
    leadership.extend_until(BootInstant::now() + Duration::from_secs(1));
    let renewed = async {
        leadership.extend_until(BootInstant::now() + WRITE_WINDOW);
        tokio::time::sleep(Duration::from_millis(1200)).await;
    };
    assert!(leadership.during(renewed).await.is_ok(), "it was renewed meanwhile");
    leadership.extend_until(BootInstant::now() + WRITE_WINDOW);
    let (ended, ()) = tokio::join!(leadership.during(never()), async { leadership.give_up() });
    assert!(ended.is_err(), "it was given up");
}

#[tokio::test]
async fn reads_pass_and_writes_only_of_a_leader() {
    use http::{Method, Request};
    use kube::client::Body;
    use tower::{BoxError, ServiceExt as _};

    let leadership = std::sync::Arc::new(Leadership::elected());
    let passes = async |method: Method| {
        let server = tower::service_fn(async |_: Request<Body>| Ok::<_, BoxError>(()));
        let request = Request::builder().method(method).body(Body::empty()).unwrap();
        match WriteGuard::new(server, server, leadership.clone()).oneshot(request).await {
            Ok(()) => true,
            Err(error) => {
                let error = kube::Error::Service(error);
                assert_eq!(Category::of(&error), Category::NotLeading, "{error}");
                false
            }
        }
    };
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    for method in writes.clone() {
        assert!(!passes(method).await);
    }
    assert!(passes(Method::GET).await);
    leadership.extend_until(BootInstant::now() + WRITE_WINDOW);
    for method in writes {
        assert!(passes(method).await);
    }
}

#[tokio::test]
async fn bytes_of_a_former_leader_do_not_reach_the_socket() {
    use std::pin::Pin;

    use hyper::rt::Write as _;
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt as _;

    let leadership = std::sync::Arc::new(Leadership::elected());
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = WriteFence::new(TokioIo::new(near), leadership.clone());
    let mut write = async |bytes: &'static [u8]| {
        std::future::poll_fn(|context| Pin::new(&mut stream).poll_write(context, bytes)).await
    };
    leadership.extend_until(BootInstant::now() + WRITE_WINDOW);
    assert_eq!(write(b"now").await.unwrap(), 3);
    leadership.extend_until(BootInstant::now());
    assert!(write(b"late").await.is_err());
    drop(stream);
    let mut seen = String::new();
    far.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "now");
}
