//! Pauses between attempts: what ends them, and which events leave the queue during a pause.

use super::*;

/// Pause that no test outlasts.
const ENDLESS: &str = "retry-after: 600\r\n";

#[tokio::test]
async fn a_stop_goes_on_trying_while_there_is_time() {
    let receiver = Receiver::with(|number, _| match number {
        0 => Reply::With(503, ENDLESS.into()),
        1..8 => Reply::Status(503),
        _ => Reply::Status(200),
    });
    let (notifications, notifier) = started(settings("a", &receiver.url()));
    push(&notifier, 0..5);
    wait(&notifications, |numbers| numbers.failures == 1).await;
    notifications.drain(TEST_TIMEOUT).await;
    let numbers = notifications.statistics().remove(0);
    assert_eq!((numbers.successes, dropped(&numbers, DropReason::Stopped), numbers.pending), (5, 0, 0));
}

#[tokio::test]
async fn old_events_leave_during_a_pause_and_the_receiver_has_its_rest() {
    let receiver = Receiver::with(|_, _| Reply::With(429, ENDLESS.into()));
    let give_up = Some(Duration::from_millis(1));
    let (notifications, notifier) = started(EndpointSettings { give_up, ..settings("a", &receiver.url()) });
    for numbers in [0..50, 50..100] {
        let end = numbers.end as u64;
        push(&notifier, numbers);
        let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
        assert_eq!((dropped(&numbers, DropReason::Expired), numbers.successes), (end, 0));
    }
    assert_eq!(receiver.requests(1).await.len(), 1, "no request during the pause");
}

#[tokio::test]
async fn events_that_wait_obey_the_lists_of_a_reload() {
    let receiver = Receiver::with(|number, _| match number {
        0 => Reply::With(503, ENDLESS.into()),
        _ => Reply::Status(200),
    });
    let (notifications, notifier) = started(settings("a", &receiver.url()));
    push(&notifier, 0..2);
    let target = Target::deleted("c/d".parse().unwrap(), None, None);
    notifier.notify((Action::Pull, vec![target]), None, None);
    wait(&notifications, |numbers| numbers.failures == 1).await;
    let now = EndpointSettings { ignored_actions: vec![Action::Push], ..settings("a", &receiver.url()) };
    notifications.apply(prepared(now), EventSettings::default()).unwrap();
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!((numbers.successes, dropped(&numbers, DropReason::Ignored)), (1, 2));
    let events = receiver.events(2).await;
    assert_eq!((&events[1]["action"], events.len()), (&"pull".into(), 2));
}

#[tokio::test]
async fn an_event_that_is_being_sent_obeys_a_reload_after_its_attempt() {
    let receiver = Receiver::with(|number, _| match number {
        0 => Reply::Silence,
        _ => Reply::Status(200),
    });
    let timeout = Duration::from_secs(2);
    let (notifications, notifier) = started(EndpointSettings { timeout, ..settings("a", &receiver.url()) });
    push(&notifier, 0..1);
    receiver.requests(1).await;
    let now = EndpointSettings { ignored_actions: vec![Action::Push], ..settings("a", &receiver.url()) };
    notifications.apply(prepared(now), EventSettings::default()).unwrap();
    let numbers = wait(&notifications, |numbers| numbers.pending == 0).await;
    assert_eq!((numbers.successes, dropped(&numbers, DropReason::Ignored)), (0, 1));
}

#[tokio::test]
async fn the_pending_events_of_an_endpoint_that_comes_back_are_its_own() {
    // The former endpoint is within an attempt, and ends later than the next one begins.
    let silent = Receiver::with(|_, _| Reply::Silence);
    let timeout = Duration::from_millis(100);
    let (notifications, notifier) = started(EndpointSettings { timeout, ..settings("a", &silent.url()) });
    push(&notifier, 0..5);
    silent.requests(1).await;
    assert!(notifications.apply(Vec::new(), EventSettings::default()).is_none());
    let away = AbsentReceiver::new();
    let slow = EndpointSettings { backoff: Duration::from_hours(1), ..settings("a", &away.url()) };
    let back = notifications.apply(prepared(slow), EventSettings::default()).unwrap();
    push(&back, 5..8);
    let numbers = wait(&notifications, |numbers| dropped(numbers, DropReason::Stopped) == 5).await;
    assert_eq!(numbers.pending, 3);
}
