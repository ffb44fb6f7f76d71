//! Detection of receivers that feed themselves: one that pulls at each event makes an event of each pull.
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Action, Event};

/// Pulls of one user in one minute above which an endpoint is likely to feed itself.
const MAX_PULLS: u32 = 1000;

/// Time over which pulls are counted.
const PERIOD: Duration = Duration::from_mins(1);

/// Most users whose pulls are counted.
const MAX_ACTORS: usize = 64;

/// Counts of the events of pulls that leave for one endpoint, by user.
#[derive(Debug, Default)]
pub(super) struct LoopWatch {
    begun: Option<Instant>,
    pulls: HashMap<Arc<str>, u32>,
}

// === impl LoopWatch ===

impl LoopWatch {
    /// Counts an event. Returns the user, once for each minute, whose pulls are more than a person's.
    pub(super) fn count(&mut self, event: &Event, now: Instant) -> Option<Arc<str>> {
        let actor = event.actor.as_ref().filter(|_| event.action == Action::Pull)?;
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= PERIOD) {
            self.begun = Some(now);
            self.pulls.clear();
        }
        if self.pulls.len() >= MAX_ACTORS && !self.pulls.contains_key(actor) {
            return None;
        }
        let pulls = self.pulls.entry(actor.clone()).or_default();
        *pulls = pulls.saturating_add(1);
        (*pulls == MAX_PULLS + 1).then(|| actor.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use uuid::Uuid;

    use super::*;
    use crate::notifications::event::Target;

    fn event(action: Action, actor: Option<&str>) -> Event {
        Event {
            id: Uuid::nil(),
            time: SystemTime::UNIX_EPOCH,
            action,
            target: Target::deleted("a".parse().unwrap(), None, None),
            request: None,
            actor: actor.map(Arc::from),
        }
    }

    fn warnings(watch: &mut LoopWatch, event: &Event, count: u32, now: Instant) -> usize {
        (0..count).filter(|_| watch.count(event, now).is_some()).count()
    }

    #[test]
    fn row_156_many_pulls_of_one_user_are_told_once_a_minute() {
        let (mut watch, now) = (LoopWatch::default(), Instant::now());
        let pull = event(Action::Pull, Some("bot"));
        assert_eq!(warnings(&mut watch, &pull, MAX_PULLS, now), 0);
        assert_eq!(watch.count(&pull, now).as_deref(), Some("bot"));
        assert_eq!(warnings(&mut watch, &pull, 10_000, now), 0);
        assert_eq!(warnings(&mut watch, &pull, MAX_PULLS, now + PERIOD), 0);
        assert_eq!(warnings(&mut watch, &pull, MAX_PULLS, now + PERIOD), 1);
    }

    #[test]
    fn pushes_and_clients_without_a_name_do_not_count() {
        let (mut watch, now) = (LoopWatch::default(), Instant::now());
        for event in [event(Action::Push, Some("bot")), event(Action::Pull, None)] {
            assert_eq!(warnings(&mut watch, &event, 10_000, now), 0);
        }
        for number in 0..10_000 {
            watch.count(&event(Action::Pull, Some(&number.to_string())), now);
        }
        assert_eq!(watch.pulls.len(), MAX_ACTORS);
    }
}
