//! Tests of endpoints beside a receiver on loopback.

mod deletions;
mod pauses;
mod receiver;
mod requests;

use std::time::Duration;

use http::header::AUTHORIZATION;
use quinistry_store::{DeletedSubject, Deletion, DeletionActor};

use self::receiver::{AbsentReceiver, Receiver, Reply};
use super::*;
use crate::ClientTls;

/// Far longer than anything here takes.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);

fn tls() -> ClientTls {
    ClientTls {
        configuration: quinistry_client::default_configuration(),
        explain: |error| quinistry_client::TlsFault::find(error).map(|fault| fault.to_string()),
    }
}

/// Returns the settings of an endpoint whose pauses are short.
fn settings(name: &str, url: &str) -> EndpointSettings {
    EndpointSettings {
        timeout: TEST_TIMEOUT,
        backoff: Duration::from_millis(1),
        threshold: 1.try_into().unwrap(),
        ..EndpointSettings::new(name.into(), EndpointUrl::new(&url.parse().unwrap()).unwrap())
    }
}

fn prepared(settings: EndpointSettings) -> Vec<Arc<PreparedEndpoint>> {
    vec![Arc::new(PreparedEndpoint::new(settings, &tls()).unwrap())]
}

fn started(settings: EndpointSettings) -> (Notifications, Arc<Notifier>) {
    let notifications = Notifications::new("registry.example:5000".into());
    let notifier = notifications.apply(prepared(settings), EventSettings::default()).unwrap();
    (notifications, notifier)
}

/// Makes events of tags with these numbers.
fn push(notifier: &Notifier, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let tag = Some(format!("v{number}").parse().unwrap());
        let target = Target::deleted("a/b".parse().unwrap(), None, tag);
        notifier.notify((Action::Push, vec![target]), None, None);
    }
}

fn tags(events: &[serde_json::Value]) -> Vec<String> {
    events.iter().map(|event| event["target"]["tag"].as_str().unwrap().to_owned()).collect()
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("v{number}")).collect()
}

/// Waits until the numbers of the only endpoint are as they shall be, and returns them.
async fn wait(
    notifications: &Notifications,
    is_reached: impl Fn(&EndpointStatistics) -> bool,
) -> EndpointStatistics {
    let reached = async {
        loop {
            let numbers = notifications.statistics().remove(0);
            if is_reached(&numbers) {
                return numbers;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(TEST_TIMEOUT, reached).await;
    found.unwrap_or_else(|_| panic!("{:?}", notifications.statistics()))
}

fn dropped(numbers: &EndpointStatistics, reason: DropReason) -> u64 {
    numbers.dropped[reason as usize].1
}

#[tokio::test]
async fn events_arrive_in_order_on_one_connection() {
    let receiver = Receiver::start();
    let (notifications, notifier) = started(settings("a", &receiver.url()));
    push(&notifier, 0..100);
    let requests = receiver.requests(100).await;
    let events: Vec<_> = requests.iter().map(receiver::Received::event).collect();
    assert_eq!(tags(&events), numbered(0..100));
    assert!(requests.iter().all(|request| request.connection == 0), "the connection stays open");
    let first = &requests[0];
    assert!(first.head.starts_with("post /hook http/1.1\r\n"), "{}", first.head);
    assert_eq!(first.header("content-type"), Some("application/vnd.docker.distribution.events.v2+json"));
    assert_eq!(events[0]["source"]["addr"], "registry.example:5000");
    let numbers = wait(&notifications, |numbers| numbers.successes == 100).await;
    assert_eq!((numbers.events, numbers.pending, numbers.failures, numbers.errors), (100, 0, 0, 0));
    assert_eq!(numbers.statuses, [("200 OK", 100)]);
}

#[tokio::test]
async fn events_of_a_receiver_that_was_away_all_arrive_in_order_and_once() {
    let absent = AbsentReceiver::new();
    let (notifications, notifier) = started(settings("a", &absent.url()));
    push(&notifier, 0..1000);
    wait(&notifications, |numbers| numbers.errors >= 3).await;
    push(&notifier, 1000..2000);
    let receiver = absent.appear(|_, _| Reply::Status(202));
    assert_eq!(tags(&receiver.events(2000).await), numbered(0..2000));
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!((numbers.events, numbers.successes), (2000, 2000));
    assert_eq!(receiver.requests(0).await.len(), 2000);
}

#[tokio::test]
async fn a_receiver_with_troubles_gets_every_event_in_the_end() {
    let receiver = Receiver::with(|number, _| match number {
        0 => Reply::Status(500),
        1 => Reply::Reset,
        2 => Reply::With(503, "retry-after: 0\r\n".into()),
        3 => Reply::Status(429),
        4 => Reply::Status(408),
        _ => Reply::Status(200),
    });
    let (notifications, notifier) = started(settings("a", &receiver.url()));
    push(&notifier, 0..3);
    let events = receiver.events(8).await;
    assert_eq!(tags(&events[..6]), vec!["v0"; 6]);
    assert_eq!(tags(&events[5..]), numbered(0..3));
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids[..6].iter().all(|id| *id == ids[0]) && ids[5] < ids[6] && ids[6] < ids[7], "{ids:?}");
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!((numbers.successes, numbers.failures, numbers.errors), (3, 4, 1));
}

#[tokio::test]
async fn row_151_a_receiver_that_does_not_end_its_answer_is_given_up() {
    for reply in [Reply::Silence, Reply::Endless, Reply::DrippingHead] {
        let first = reply.clone();
        let receiver = Receiver::with(move |number, _| match number {
            0 => first.clone(),
            _ => Reply::Status(200),
        });
        let timeout = Duration::from_millis(200);
        let (notifications, notifier) =
            started(EndpointSettings { timeout, ..settings("a", &receiver.url()) });
        push(&notifier, 0..2);
        wait(&notifications, |numbers| numbers.successes == 2).await;
        let requests = receiver.requests(3).await;
        assert!(
            requests[0].connection < requests.last().unwrap().connection,
            "{reply:?}: another connection"
        );
    }
}

#[tokio::test]
async fn an_event_that_is_refused_again_and_again_lets_the_next_one_pass() {
    for status in [400, 302] {
        let receiver = Receiver::with(move |_, request| match request.event()["target"]["tag"].as_str() {
            Some("v1") => Reply::With(status, "location: http://169.254.169.254/\r\n".into()),
            _ => Reply::Status(200),
        });
        let (notifications, notifier) = started(settings("a", &receiver.url()));
        push(&notifier, 0..4);
        let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
        assert_eq!((numbers.successes, dropped(&numbers, DropReason::Refused)), (3, 1));
        let events = receiver.events(13).await;
        assert_eq!(tags(&events[1..11]), vec!["v1"; 10], "ten attempts");
        assert_eq!(tags(&events[11..]), ["v2", "v3"]);
    }
}

#[tokio::test]
async fn a_redirect_that_stays_is_followed_with_all_headers() {
    let receiver = Receiver::with(|_, request| {
        if request.head.starts_with("post /hook ") {
            Reply::With(307, "location: /new\r\n".into())
        } else {
            Reply::Status(200)
        }
    });
    let url = receiver.url().replace("http://", "http://user:password@");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
    let (notifications, notifier) =
        started(EndpointSettings { secrets: vec![secret], ..settings("a", &url) });
    push(&notifier, 0..1);
    let requests = receiver.requests(2).await;
    assert!(requests[1].head.starts_with("post /new "), "{}", requests[1].head);
    let rest = |index: usize| requests[index].head.split_once('\n').unwrap().1;
    assert_eq!((rest(0), &requests[0].body), (rest(1), &requests[1].body));
    assert_eq!(requests[1].header("authorization"), Some("basic dxnlcjpwyxnzd29yza=="));
    assert!(requests[1].header("webhook-signature").unwrap().starts_with("v1,"));
    let id = requests[0].event()["id"].as_str().unwrap().to_owned();
    assert_eq!(requests[1].header("webhook-id"), Some(&*id));
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!((numbers.successes, numbers.failures), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_redirects_without_an_end_refuses_the_event() {
    let receiver = Receiver::with(|_, request| match request.event()["target"]["tag"].as_str() {
        Some("v0") => Reply::With(308, "location: /hook\r\n".into()),
        _ => Reply::Status(200),
    });
    let (notifications, notifier) = started(settings("a", &receiver.url()));
    push(&notifier, 0..2);
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!((numbers.successes, dropped(&numbers, DropReason::Refused)), (1, 1));
    assert_eq!((numbers.failures, numbers.errors), (10, 0));
    assert_eq!(receiver.requests(0).await.len(), 10 * 6 + 1, "each attempt follows five redirects");
}

#[tokio::test]
async fn row_153_pushes_never_wait_and_the_oldest_events_go() {
    let queue = 100.try_into().unwrap();
    let away = AbsentReceiver::new();
    let (notifications, notifier) = started(EndpointSettings { queue, ..settings("a", &away.url()) });
    push(&notifier, 0..100_000);
    let numbers = notifications.statistics().remove(0);
    assert_eq!((numbers.events, numbers.pending), (100_000, 100));
    assert_eq!(dropped(&numbers, DropReason::QueueFull), 100_000 - 100);
}

#[tokio::test]
async fn events_that_wait_survive_a_reload_and_go_to_the_new_place() {
    let away = AbsentReceiver::new();
    // A pause that no test outlasts: the reload ends it.
    let slow = EndpointSettings { backoff: Duration::from_hours(1), ..settings("a", &away.url()) };
    let (notifications, notifier) = started(slow);
    push(&notifier, 0..5);
    wait(&notifications, |numbers| numbers.errors > 0).await;
    let receiver = Receiver::start();
    let later =
        notifications.apply(prepared(settings("a", &receiver.url())), EventSettings::default()).unwrap();
    push(&later, 5..7);
    assert_eq!(tags(&receiver.events(7).await), numbered(0..7));
    wait(&notifications, |numbers| numbers.successes == 7).await;

    // The numbers of a removed endpoint stay, and so do those of one that comes back.
    assert!(notifications.apply(Vec::new(), EventSettings::default()).is_none());
    let back =
        notifications.apply(prepared(settings("a", &receiver.url())), EventSettings::default()).unwrap();
    push(&back, 7..8);
    let numbers = wait(&notifications, |numbers| numbers.successes == 8).await;
    assert_eq!(numbers.events, 8);
}

#[tokio::test]
async fn events_of_a_removed_endpoint_are_dropped_and_counted() {
    let away = AbsentReceiver::new();
    let (notifications, notifier) = started(settings("a", &away.url()));
    push(&notifier, 0..5);
    notifications.apply(Vec::new(), EventSettings::default());
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!(dropped(&numbers, DropReason::Stopped), 5);
    // A request that began before.
    push(&notifier, 5..7);
    let numbers = notifications.statistics().remove(0);
    assert_eq!((dropped(&numbers, DropReason::Stopped), numbers.events, numbers.pending), (7, 7, 0));
}

#[tokio::test]
async fn events_that_wait_are_sent_when_the_registry_stops() {
    let receiver = Receiver::start();
    let (notifications, notifier) = started(settings("a", &receiver.url()));
    push(&notifier, 0..50);
    notifications.drain(TEST_TIMEOUT).await;
    assert_eq!(tags(&receiver.events(0).await), numbered(0..50));
}

#[tokio::test]
async fn a_receiver_that_is_away_does_not_hold_up_the_stop() {
    let away = AbsentReceiver::new();
    let slow = EndpointSettings { backoff: Duration::from_hours(1), ..settings("a", &away.url()) };
    let (notifications, notifier) = started(slow);
    push(&notifier, 0..5);
    wait(&notifications, |numbers| numbers.errors > 0).await;
    // Longer than the test can wait, and shorter than the pause that follows the failed attempt.
    let drained = notifications.drain(Duration::from_mins(20));
    tokio::time::timeout(TEST_TIMEOUT, drained).await.expect("no further attempt comes in time");
    let silent = Receiver::with(|_, _| Reply::Silence);
    let (other, notifier) =
        started(EndpointSettings { timeout: Duration::from_hours(2), ..settings("a", &silent.url()) });
    push(&notifier, 0..5);
    silent.requests(1).await;
    other.drain(Duration::from_millis(1)).await;
    for notifications in [notifications, other] {
        let numbers = notifications.statistics().remove(0);
        assert_eq!((dropped(&numbers, DropReason::Stopped), numbers.pending), (5, 0));
    }
}

#[tokio::test]
async fn patterns_and_lists_choose_the_events_of_an_endpoint() {
    let receiver = Receiver::start();
    let settings = EndpointSettings {
        repositories: vec!["team/**".into(), "!team/secret/**".into()],
        ignored_actions: vec![Action::Pull],
        version: EnvelopeVersion::V1,
        ..settings("a", &receiver.url())
    };
    let (notifications, notifier) = started(settings);
    assert!(notifier.wants(Action::Push) && !notifier.wants(Action::Pull));
    for (action, repository) in [
        (Action::Push, "other/app"),
        (Action::Push, "team/secret/app"),
        (Action::Pull, "team/app"),
        (Action::Push, "team/app"),
    ] {
        let target = Target::deleted(repository.parse().unwrap(), None, None);
        notifier.notify((action, vec![target]), None, None);
    }
    let requests = receiver.requests(1).await;
    assert_eq!(requests[0].event()["target"]["repository"], "team/app");
    assert_eq!(
        requests[0].header("content-type"),
        Some("application/vnd.docker.distribution.events.v1+json")
    );
    wait(&notifications, |numbers| numbers.successes == 1 && numbers.events == 1).await;
}

#[tokio::test]
async fn deletions_by_the_registry_are_events_with_their_actor() {
    let receiver = Receiver::start();
    let (_notifications, notifier) = started(settings("a", &receiver.url()));
    let repository = || "team/app".parse().unwrap();
    let digest = || quinistry_oci::Digest::sha256(b"x");
    let tag = DeletedSubject::Tag { repository: repository(), tag: "v1".parse().unwrap(), digest: digest() };
    for (actor, subject) in [
        (DeletionActor::Retention, tag),
        (DeletionActor::Scrub, DeletedSubject::Bytes { digest: digest(), length: 1 }),
        (DeletionActor::Collection, DeletedSubject::Manifest { repository: repository(), digest: digest() }),
        (DeletionActor::Collection, DeletedSubject::Blob { repository: repository(), digest: digest() }),
    ] {
        let deletion = Deletion { actor, subject, policy: None, reason: "none".into() };
        notifier.deleted_by_registry(&deletion, SystemTime::UNIX_EPOCH);
    }
    let events = receiver.events(3).await;
    let found: Vec<_> = events
        .iter()
        .map(|event| (event["actor"]["name"].as_str().unwrap(), event["target"]["tag"].as_str()))
        .collect();
    let collection = ("quinistry:collection", None);
    assert_eq!(found, [("quinistry:retention", Some("v1")), collection, collection]);
    assert_eq!(events[1]["target"]["digest"], digest().as_str());
    assert_eq!(events[0]["action"], "delete");
    assert_eq!(events[0]["timestamp"], "1970-01-01T00:00:00Z");
}

#[tokio::test]
async fn row_149_errors_of_an_endpoint_show_no_secret() {
    let away = AbsentReceiver::new();
    let url = away.url().replace("http://", "http://user:hunter2@") + "/hunter2?token=hunter2";
    let mut settings = settings("a", &url);
    settings.headers.insert(AUTHORIZATION, "Bearer hunter2".parse().unwrap());
    let prepared = PreparedEndpoint::new(settings, &tls()).unwrap();
    let body = bytes::Bytes::from_static(b"{}");
    let request = sender::EventRequest { id: "x", body, now: SystemTime::now() };
    let outcome = prepared.sender.send(&prepared.settings, &request).await;
    assert!(matches!(outcome, delivery::Outcome::Failed(_)), "{outcome:?}");
    let shown = format!("{outcome:?} {prepared:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
