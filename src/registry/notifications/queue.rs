//! Queue of the events of one endpoint, bounded in number and in memory. Pure.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use super::event::Event;

/// Most memory of the events that wait for one endpoint, in bytes: ten thousand usual events without references
/// fit into it.
pub(super) const MAX_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Events that wait for an endpoint, in the order in which they happened. Where they exceed a bound, the
/// oldest ones leave, but for the one that is being sent.
///
/// Deletions by the registry itself come by the thousand within seconds, and leave before events of requests:
/// a receiver must not miss a push because copies of an upstream were evicted.
#[derive(Debug)]
pub(super) struct EventQueue {
    of_requests: Lane,
    of_registry: Lane,
    /// Number of the next event.
    next: u64,
    bytes: usize,
    capacity: usize,
    /// True if the first event is being sent.
    is_sending: bool,
}

/// Events of one origin, each with its number in the order of all.
type Lane = VecDeque<(u64, Arc<Event>)>;

/// Origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Request,
    Registry,
}

// === impl EventQueue ===

impl EventQueue {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            of_requests: Lane::new(),
            of_registry: Lane::new(),
            next: 0,
            bytes: 0,
            capacity: capacity.get(),
            is_sending: false,
        }
    }

    /// Changes the greatest number of events. Returns the number of events that had to leave.
    pub(super) fn resize(&mut self, capacity: NonZeroUsize) -> usize {
        self.capacity = capacity.get();
        self.shrink()
    }

    /// Adds an event. Returns the number of events that had to leave: older ones, or this one.
    pub(super) fn push(&mut self, event: Arc<Event>) -> usize {
        self.bytes += event.weight();
        let origin = if event.request.is_some() { Origin::Request } else { Origin::Registry };
        let number = self.next;
        self.next += 1;
        self.lane(origin).push_back((number, event));
        self.shrink()
    }

    /// Returns the first event to send it. It stays until [`remove_first`](Self::remove_first).
    pub(super) fn send_first(&mut self) -> Option<Arc<Event>> {
        let first = self.first().cloned();
        self.is_sending = first.is_some();
        first
    }

    /// Removes the event that was sent or is given up.
    pub(super) fn remove_first(&mut self) {
        self.is_sending = false;
        self.remove(self.first_origin(), 0);
    }

    /// Takes back the event whose attempt has failed: until the next one, it waits like all others.
    pub(super) fn stop_sending(&mut self) {
        self.is_sending = false;
    }

    /// Removes the events at the front that are from before a time, while none is being sent. Returns their
    /// number.
    pub(super) fn remove_before(&mut self, time: SystemTime) -> usize {
        let mut removed = 0;
        while !self.is_sending && self.first().is_some_and(|event| event.time <= time) {
            self.remove(self.first_origin(), 0);
            removed += 1;
        }
        removed
    }

    /// Keeps the events that a condition holds for, and the one that is being sent. Returns the number of
    /// events that had to leave.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Event) -> bool) -> usize {
        let former = self.len();
        let sent = self.first_numbers().into_iter().flatten().min().filter(|_| self.is_sending);
        let bytes = &mut self.bytes;
        for lane in [&mut self.of_requests, &mut self.of_registry] {
            lane.retain(|(number, event)| {
                let stays = sent == Some(*number) || is_kept(event);
                if !stays {
                    *bytes -= event.weight();
                }
                stays
            });
        }
        former - self.len()
    }

    /// Returns the time of the first event.
    pub(super) fn first_time(&self) -> Option<SystemTime> {
        self.first().map(|event| event.time)
    }

    /// Removes all events, and returns their number.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes = 0;
        self.is_sending = false;
        std::mem::take(&mut self.of_requests).len() + std::mem::take(&mut self.of_registry).len()
    }

    pub(super) fn len(&self) -> usize {
        self.of_requests.len() + self.of_registry.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_requests.is_empty() && self.of_registry.is_empty()
    }

    /// Returns the event that happened first.
    fn first(&self) -> Option<&Arc<Event>> {
        let lane = match self.first_origin() {
            Origin::Request => &self.of_requests,
            Origin::Registry => &self.of_registry,
        };
        lane.front().map(|(_, event)| event)
    }

    /// Returns the origin of the first event, if there is one.
    fn first_origin(&self) -> Origin {
        let [request, registry] = self.first_numbers();
        let is_registry = registry.is_some_and(|registry| request.is_none_or(|request| registry < request));
        if is_registry { Origin::Registry } else { Origin::Request }
    }

    /// Returns the number of the first event of each origin.
    fn first_numbers(&self) -> [Option<u64>; 2] {
        [&self.of_requests, &self.of_registry].map(|lane| lane.front().map(|(number, _)| *number))
    }

    fn lane(&mut self, origin: Origin) -> &mut Lane {
        match origin {
            Origin::Request => &mut self.of_requests,
            Origin::Registry => &mut self.of_registry,
        }
    }

    fn shrink(&mut self) -> usize {
        let mut removed = 0;
        // One event stays in any case: it cannot be longer than a manifest allows.
        while self.len() > usize::from(self.is_sending) + 1
            && (self.len() > self.capacity || self.bytes > MAX_QUEUE_BYTES)
        {
            let sent = self.is_sending.then(|| self.first_origin());
            let oldest = |origin| usize::from(sent == Some(origin));
            let origin = if self.of_registry.len() > oldest(Origin::Registry) {
                Origin::Registry
            } else {
                Origin::Request
            };
            self.remove(origin, oldest(origin));
            removed += 1;
        }
        removed
    }

    fn remove(&mut self, origin: Origin, index: usize) {
        if let Some((_, event)) = self.lane(origin).remove(index) {
            self.bytes -= event.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::notifications::event::{Action, RequestRecord, Target};

    fn event(number: u128, url_bytes: usize) -> Arc<Event> {
        let target =
            Target { url: Some("x".repeat(url_bytes)), ..Target::deleted("a".parse().unwrap(), None, None) };
        let id = Uuid::from_u128(number);
        Arc::new(Event {
            id,
            time: SystemTime::UNIX_EPOCH,
            action: Action::Push,
            target,
            request: Some(Arc::default()),
            actor: None,
        })
    }

    /// Returns a deletion by the registry itself.
    fn deletion(number: u128) -> Arc<Event> {
        let event = Arc::into_inner(event(number, 1)).unwrap();
        Arc::new(Event {
            action: Action::Delete,
            request: None,
            actor: Some("quinistry:upstream".into()),
            ..event
        })
    }

    fn queue(capacity: usize) -> EventQueue {
        EventQueue::new(capacity.try_into().unwrap())
    }

    fn drained(mut queue: EventQueue) -> Vec<u128> {
        let mut numbers = Vec::new();
        while let Some(event) = queue.send_first() {
            numbers.push(event.id.as_u128());
            queue.remove_first();
        }
        assert!(queue.bytes == 0 && queue.is_empty());
        numbers
    }

    #[test]
    fn events_leave_in_order_and_the_oldest_leave_a_full_queue() {
        let mut queue = queue(3);
        let left: Vec<usize> = (1..=5).map(|number| queue.push(event(number, 1))).collect();
        assert_eq!((left, queue.len()), (vec![0, 0, 0, 1, 1], 3));
        assert_eq!(drained(queue), [3, 4, 5]);
    }

    #[test]
    fn as_many_usual_events_wait_as_are_configured() {
        let mut queue = queue(10_000);
        let record = RequestRecord {
            id: "8f0c4f5e-2d11-4f0e-9a37-5f3f1d0a7c55".into(),
            address: "192.0.2.7:60174".into(),
            host: "registry.example".into(),
            method: "PUT".into(),
            user_agent: "containerd/2.2.1".into(),
        };
        let url = format!("https://registry.example/v2/team/app/manifests/sha256:{}", "0".repeat(64));
        let event = Arc::new(Event {
            target: Target {
                media_type: "application/vnd.oci.image.manifest.v1+json".into(),
                digest: Some(quinistry_oci::Digest::sha256(b"")),
                url: Some(url),
                tag: Some("v1.2.3".parse().unwrap()),
                ..Target::deleted("team/app".parse().unwrap(), None, None)
            },
            request: Some(Arc::new(record)),
            actor: Some("alice".into()),
            ..Arc::into_inner(event(1, 0)).unwrap()
        });
        for _ in 0..10_000 {
            assert_eq!(queue.push(event.clone()), 0, "{} bytes each", event.weight());
        }
    }

    #[test]
    fn row_153_a_million_events_take_no_more_memory_than_the_bound() {
        let mut queue = queue(10_000);
        let long = event(1, 4096);
        let removed: usize = (0..1_000_000).map(|_| queue.push(long.clone())).sum();
        assert!(queue.bytes <= MAX_QUEUE_BYTES && queue.len() < 10_000, "{} {}", queue.bytes, queue.len());
        assert_eq!(removed + queue.len(), 1_000_000);
    }

    #[test]
    fn the_event_that_is_being_sent_stays() {
        let mut queue = queue(2);
        queue.push(event(1, 1));
        assert_eq!(queue.send_first().unwrap().id.as_u128(), 1);
        queue.push(event(2, 1));
        assert_eq!(queue.push(event(3, 1)), 1, "the second one leaves");
        assert_eq!(drained(queue), [1, 3]);
        let mut queue = self::queue(1);
        queue.push(event(1, 1));
        queue.send_first();
        assert_eq!((queue.push(event(2, 1)), queue.push(event(3, 1))), (0, 1));
        assert_eq!(drained(queue), [1, 3]);
    }

    #[test]
    fn events_leave_by_a_condition_but_for_the_one_that_is_being_sent() {
        let filled = || {
            let mut queue = queue(5);
            (1..=5).for_each(|number| assert_eq!(queue.push(event(number, 1)), 0));
            queue
        };
        let is_even = |event: &Event| event.id.as_u128().is_multiple_of(2);
        let mut queue = filled();
        assert_eq!(queue.retain(is_even), 3);
        assert_eq!(drained(queue), [2, 4]);
        let mut queue = filled();
        queue.send_first();
        assert_eq!(queue.retain(is_even), 2);
        queue.stop_sending();
        assert_eq!(queue.retain(is_even), 1);
        assert_eq!(drained(queue), [2, 4]);
    }

    #[test]
    fn row_153_deletions_by_the_registry_push_no_event_of_a_client_out() {
        let mut queue = queue(100);
        for number in 1..=50 {
            assert_eq!(queue.push(event(number, 1)), 0);
        }
        let left: usize = (51..=10_050).map(|number| queue.push(deletion(number))).sum();
        assert_eq!((left, queue.len()), (9_950, 100));
        assert_eq!(
            queue.send_first().unwrap().id.as_u128(),
            1,
            "events leave in the order in which they happened"
        );
        assert_eq!(queue.push(event(10_051, 1)), 1, "the oldest deletion leaves");
        let expected: Vec<u128> = (1..=50).chain(10_002..=10_051).collect();
        assert_eq!(drained(queue), expected);
    }

    #[test]
    fn a_deletion_by_the_registry_that_is_being_sent_stays() {
        let mut queue = queue(2);
        queue.push(deletion(1));
        queue.send_first();
        queue.push(event(2, 1));
        assert_eq!(queue.push(event(3, 1)), 1, "the second one leaves");
        assert_eq!(queue.push(deletion(4)), 1, "there is no room for it");
        assert_eq!(queue.retain(|_| false), 1);
        queue.stop_sending();
        assert_eq!(queue.first_time(), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(drained(queue), [1]);
    }

    #[test]
    fn a_smaller_queue_drops_at_once() {
        let mut queue = queue(5);
        for number in 1..=5 {
            queue.push(event(number, 1));
        }
        assert_eq!(queue.resize(2.try_into().unwrap()), 3);
        assert_eq!((queue.clear(), queue.bytes), (2, 0));
    }
}
