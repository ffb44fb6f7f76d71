//! Passwords of a file, checked as requests would have them checked.

use std::fmt::Write as _;
use std::fs;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use quinistry_http::client_address::ClientAddress;
use quinistry_http::watch::ReloadFiles as _;

use super::{PasswordChecks, PasswordVerifier};
use crate::auth::authenticator::{CredentialVerifier as _, Credentials};
use crate::auth::htpasswd::HtpasswdFile;
use crate::auth::{AuthenticationError, IdentityProof};
use crate::metrics::AuthMetrics;

/// Hash of `abc` at cost 6, from the test vectors of jBCrypt.
const ABC: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

/// Hash of an empty password at cost 6, from the same source.
const EMPTY: &str = "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";

/// Registry's passwords, and the file that they come from.
struct Fixture {
    path: tempfile::TempPath,
    file: Arc<HtpasswdFile>,
    checks: Arc<PasswordChecks>,
    metrics: Arc<AuthMetrics>,
    verifier: Arc<PasswordVerifier>,
}

/// Answer to credentials.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    User(String),
    Invalid,
    Wait(u32),
}

impl Fixture {
    fn new(text: &str) -> Self {
        Self::on_processors(2, text)
    }

    fn on_processors(processors: usize, text: &str) -> Self {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        fs::write(&path, text).unwrap();
        let file = Arc::new(HtpasswdFile::open(&*path).unwrap());
        let metrics = Arc::new(AuthMetrics::default());
        let checks = Arc::new(PasswordChecks::on_processors(processors, metrics.clone()).unwrap());
        let verifier = Arc::new(PasswordVerifier::new(file.clone(), checks.clone()));
        Self { path, file, checks, metrics, verifier }
    }

    async fn log_in_from(&self, client: u32, user: &str, password: &[u8]) -> Answer {
        let client = ClientAddress::Ip(IpAddr::V4(Ipv4Addr::from_bits(client)));
        let credentials = Credentials::Basic { user, password };
        match self.verifier.verify(credentials, Some(client)).await.expect("passwords are known here") {
            Ok(identity) => {
                // Without a reload, the version is that of the file.
                let version = self.verifier.version_of(user);
                assert!(version.is_some());
                assert_eq!(identity.proof, IdentityProof::Password { version });
                Answer::User(identity.name.unwrap().to_string())
            }
            Err(AuthenticationError::Invalid { .. }) => Answer::Invalid,
            Err(AuthenticationError::TooManyAttempts { retry_after_seconds }) => {
                Answer::Wait(retry_after_seconds)
            }
        }
    }

    async fn log_in(&self, user: &str, password: &str) -> Answer {
        self.log_in_from(1, user, password.as_bytes()).await
    }

    fn replace(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
        self.file.reload().unwrap();
    }
}

/// Polls a future one time.
async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

fn user(name: &str) -> Answer {
    Answer::User(name.into())
}

#[tokio::test]
async fn the_right_password_of_a_user_gives_the_users_identity() {
    let registry = Fixture::new(&format!("alice:{ABC}\nbob:{EMPTY}\noff:!\n"));
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    assert_eq!(registry.log_in("bob", "").await, user("bob"));
    for (name, password) in
        [("alice", ""), ("alice", "ABC"), ("Alice", "abc"), ("nemo", "abc"), ("off", "!"), ("", "abc")]
    {
        assert_eq!(registry.log_in(name, password).await, Answer::Invalid, "{name}");
    }
    let bearer = registry.verifier.verify(Credentials::Bearer("abc"), None).await;
    assert!(bearer.is_none(), "tokens are for other verifiers");
}

#[tokio::test]
async fn a_success_is_remembered_and_a_failure_is_not() {
    let registry = Fixture::new(&format!("alice:{ABC}\n"));
    for _ in 0..100 {
        assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    }
    assert_eq!(registry.metrics.computations(), 1);
    for _ in 0..3 {
        assert_eq!(registry.log_in("alice", "wrong").await, Answer::Invalid);
    }
    assert_eq!(registry.metrics.computations(), 4);
}

#[tokio::test]
async fn a_hundred_attempts_at_once_make_one_computation() {
    let registry = Arc::new(Fixture::new(&format!("alice:{ABC}\n")));
    let attempts = (0..100).map(|number| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.log_in_from(number, "alice", b"abc").await })
    });
    for attempt in attempts.collect::<Vec<_>>() {
        assert_eq!(attempt.await.unwrap(), user("alice"));
    }
    assert_eq!(registry.metrics.computations(), 1);
}

#[tokio::test]
async fn an_attempt_whose_clients_left_still_ends_and_counts() {
    let registry = Fixture::new(&format!("alice:{ABC}\n"));
    {
        let attempt = registry.log_in("alice", "abc");
        tokio::pin!(attempt);
        assert!(poll_once(attempt.as_mut()).await.is_pending());
    }
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    assert_eq!(registry.metrics.computations(), 1, "the second client joined the first one's computation");
}

#[tokio::test]
async fn row_111_a_changed_line_ends_a_remembered_success_at_once() {
    let registry = Fixture::new(&format!("alice:{ABC}\n"));
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    registry.replace(&format!("alice:{EMPTY}\n"));
    assert_eq!(registry.log_in("alice", "abc").await, Answer::Invalid);
    assert_eq!(registry.log_in("alice", "").await, user("alice"));
    registry.replace("");
    assert_eq!(registry.log_in("alice", "").await, Answer::Invalid);
}

#[tokio::test]
async fn a_line_that_changes_while_a_password_is_checked_does_not_let_in() {
    let registry = Fixture::new(&format!("alice:{ABC}\n"));
    let attempt = registry.log_in("alice", "abc");
    tokio::pin!(attempt);
    assert!(poll_once(attempt.as_mut()).await.is_pending());
    registry.replace(&format!("alice:{EMPTY}\n"));
    assert_eq!(attempt.await, Answer::Invalid);
}

#[tokio::test]
async fn unknown_users_cost_as_much_as_known_ones() {
    let hash = ABC.replace("$06$", "$07$");
    let registry = Fixture::new(&format!("alice:{hash}\n"));
    for (name, computations) in [("alice", 1), ("nemo", 2), ("", 3)] {
        assert_eq!(registry.log_in(name, "wrong").await, Answer::Invalid);
        assert_eq!(registry.metrics.computations(), computations, "{name}");
        assert_eq!(registry.file.users().to_check(name).1.cost(), 7, "{name}");
    }
}

#[tokio::test]
async fn wrong_passwords_are_throttled_and_remembered_ones_are_not() {
    let registry = Fixture::new(&format!("alice:{ABC}\nbob:{EMPTY}\n"));
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    for _ in 0..10 {
        assert_eq!(registry.log_in("bob", "wrong").await, Answer::Invalid);
    }
    let before = registry.metrics.computations();
    for name in ["bob", "carol", "dave"] {
        assert_eq!(registry.log_in(name, "wrong").await, Answer::Wait(3), "{name}");
    }
    assert_eq!(registry.metrics.computations(), before, "nothing is computed for them");
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    assert_eq!(registry.log_in_from(2, "bob", b"").await, user("bob"), "from another network");
}

#[tokio::test]
async fn a_full_queue_asks_to_wait() {
    // One computes and 64 wait. None of them begins before the test awaits something.
    let registry = Fixture::on_processors(1, &format!("alice:{ABC}\n"));
    for number in 0..65 {
        let password = format!("wrong {number}");
        let attempt = registry.log_in_from(number, "alice", password.as_bytes());
        tokio::pin!(attempt);
        assert!(poll_once(attempt.as_mut()).await.is_pending(), "{number}");
    }
    assert_eq!(registry.log_in_from(1000, "alice", b"wrong").await, Answer::Wait(1));
    assert_eq!(registry.log_in_from(1000, "alice", b"abc").await, Answer::Wait(1));
}

#[tokio::test]
async fn wrong_passwords_of_one_network_do_not_stand_before_a_right_one_of_another() {
    // One computes.
    let registry = Fixture::on_processors(2, &format!("alice:{ABC}\n"));
    for number in 0..32 {
        let user = format!("user{number}");
        let attempt = registry.log_in_from(1, &user, b"wrong");
        tokio::pin!(attempt);
        assert!(poll_once(attempt.as_mut()).await.is_pending(), "{number}");
    }
    assert_eq!(registry.log_in_from(2, "alice", b"abc").await, user("alice"));
    let computations = registry.metrics.computations();
    assert!(computations <= 3, "{computations}");
}

#[test]
fn a_runtime_that_has_ended_refuses_a_password_and_blocks_no_thread() {
    let (done, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _entered = handle.enter();
        let registry = Fixture::new(&format!("alice:{ABC}\n"));
        let attempt = std::pin::pin!(registry.log_in("alice", "abc"));
        let answer = attempt.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        done.send(answer).unwrap();
    });
    let answer = answers.recv_timeout(std::time::Duration::from_secs(30)).expect("the attempt ends");
    assert_eq!(answer, Poll::Ready(Answer::Invalid));
}

#[tokio::test]
async fn row_109_many_names_from_many_addresses_stay_bounded_and_do_not_hurt_remembered_users() {
    let registry = Fixture::new(&format!("alice:{ABC}\n"));
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    let mut name = String::new();
    let mut refused = 0;
    for number in 0..100_000_u32 {
        name.clear();
        write!(name, "user{number}").unwrap();
        let attempt = registry.log_in_from(number % 10_000, &name, b"password");
        tokio::pin!(attempt);
        // Clients do not wait for the answer.
        if let Poll::Ready(answer) = poll_once(attempt.as_mut()).await {
            assert!(matches!(answer, Answer::Wait(_)), "{answer:?}");
            refused += 1;
        }
    }
    assert!(refused > 99_000, "{refused}");
    assert!(registry.checks.throttle_len() < 150_000, "{}", registry.checks.throttle_len());
    let before = registry.metrics.computations();
    assert_eq!(registry.log_in("alice", "abc").await, user("alice"));
    assert_eq!(registry.metrics.computations(), before);
}
