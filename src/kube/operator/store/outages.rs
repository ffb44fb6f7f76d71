//! Outages of nodes with stores, as an annotation of the Service remembers them. Pure.
//!
//! An operator forgets at its end what it has seen, and the time of a node's condition changes with each state of the
//! node. By these two times alone an outage would begin again at each such change: a store that became Ready alone
//! would count as complete, and a node that is Ready for a moment now and then would never be replaced. The annotation
//! outlasts operator and state.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::nodes::{EarlierStores, OUTAGE_SECONDS};
use crate::operator::observed::ObservedNode;

/// Time in seconds for which node and store must have been Ready again before the outage is forgotten. Within it,
/// other stores copy what they missed during the outage; they do not tell when they have done so.
pub(super) const RECOVERY_SECONDS: i64 = 3600;

/// Outages by name of the node.
pub(super) type Outages = BTreeMap<String, Outage>;

/// Outage of a node with a store. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outage {
    /// Begin of the outage, by the earliest of all clocks: no store that became Ready later is known to be
    /// complete.
    pub began: i64,
    /// Time from which the node's absence is counted, by the latest of all clocks; `None` once the node was Ready
    /// again for [`OUTAGE_SECONDS`]. Its store may copy for longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<i64>,
}

/// Reads the annotation; an unreadable one counts as empty.
pub(super) fn parse(annotation: Option<&str>) -> Outages {
    annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Returns the annotation; `None` without outages.
pub(super) fn annotation(outages: &Outages) -> Option<String> {
    let text = || serde_json::to_string(outages).expect("outages are JSON");
    (!outages.is_empty()).then(text)
}

/// Returns the outages of the nodes with stores now, of those that were remembered before. `earlier` has these
/// nodes; others are forgotten.
///
/// A node that is Ready again is still remembered, until node and store have been so for [`RECOVERY_SECONDS`].
pub(super) fn follow(
    before: &Outages,
    nodes: &[Arc<ObservedNode>],
    earlier: &EarlierStores,
    now: Timestamp,
) -> Outages {
    let mut outages = Outages::new();
    for node in nodes {
        let (Some(store), known) = (earlier.get(&node.name), before.get(&node.name)) else { continue };
        let outage = if node.ready {
            known.and_then(|outage| outage.after_recovery(node, *store, now))
        } else {
            Some(Outage::of(node, known))
        };
        outages.extend(outage.map(|outage| (node.name.clone(), outage)));
    }
    outages
}

// === impl Outage ===

impl Outage {
    /// Returns the outage of a node that is not Ready, which goes on if it is known.
    fn of(node: &ObservedNode, known: Option<&Self>) -> Self {
        // The time of the condition moves when its status changes from Unknown to False.
        let (first, last) = (node.since.min(node.seen).as_second(), node.since.max(node.seen).as_second());
        Self {
            began: known.map_or(first, |known| known.began.min(first)),
            absent_since: Some(known.and_then(|known| known.absent_since).unwrap_or(last)),
        }
    }

    /// Returns what is remembered of the outage of a node that is Ready, with the time since which its store is so.
    fn after_recovery(self, node: &ObservedNode, store: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        let node = node.since.max(node.seen);
        let seconds = |since: Timestamp| now.as_second() - since.as_second();
        let absent_since = self.absent_since.filter(|_| seconds(node) < OUTAGE_SECONDS);
        let is_over = store.is_some_and(|store| seconds(node.max(store)) >= RECOVERY_SECONDS);
        (!is_over).then_some(Self { absent_since, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(offset: i64) -> Timestamp {
        Timestamp::from_second(NOW + offset).unwrap()
    }

    fn node(ready: bool, since: i64, seen: i64) -> ObservedNode {
        ObservedNode { ready, seen: at(seen), ..ObservedNode::ready_since("a", at(since)) }
    }

    fn outage(began: i64, absent_since: Option<i64>) -> Outages {
        let absent_since = absent_since.map(|since| NOW + since);
        [("a".to_owned(), Outage { began: NOW + began, absent_since })].into()
    }

    /// Follows one node, whose store is Ready since then.
    fn followed(before: &Outages, node: ObservedNode, store: Option<i64>) -> Outages {
        let earlier = [("a".to_owned(), store.map(at))].into();
        follow(before, &[Arc::new(node)], &earlier, at(0))
    }

    #[test]
    fn an_outage_begins_by_the_earliest_clock_and_its_absence_by_the_latest() {
        let none = Outages::new();
        assert_eq!(followed(&none, node(false, -500, -10), None), outage(-500, Some(-10)));
        assert_eq!(followed(&none, node(false, -10, -500), None), outage(-500, Some(-10)));
        assert_eq!(followed(&none, node(true, -10, -10), None), none);
    }

    #[test]
    fn a_new_operator_or_another_state_of_the_condition_begins_no_new_outage() {
        let before = outage(-5000, Some(-4900));
        assert_eq!(followed(&before, node(false, -20, -3), None), before);
    }

    #[test]
    fn a_node_that_is_ready_for_a_moment_begins_no_new_outage() {
        let before = outage(-5000, Some(-4900));
        for store in [None, Some(-20)] {
            assert_eq!(followed(&before, node(true, -30, -25), store), before, "{store:?}");
        }
        let absent = outage(-5000, None);
        assert_eq!(followed(&before, node(true, -4000, -4000), None), absent, "its store still copies");
    }

    #[test]
    fn absence_is_counted_anew_after_ten_minutes_and_the_outage_forgotten_after_an_hour() {
        let before = outage(-9000, Some(-8900));
        let ready = |seconds: i64| followed(&before, node(true, -seconds, -seconds), Some(-seconds));
        assert_eq!(ready(OUTAGE_SECONDS - 1), before);
        assert_eq!(ready(OUTAGE_SECONDS), outage(-9000, None));
        assert_eq!(ready(RECOVERY_SECONDS - 1), outage(-9000, None));
        assert_eq!(ready(RECOVERY_SECONDS), Outages::new());
        let copied = followed(&before, node(true, -8000, -8000), Some(1 - RECOVERY_SECONDS));
        assert_eq!(copied, outage(-9000, None), "its store copied for long");
        let again = followed(&outage(-9000, None), node(false, -60, -50), None);
        assert_eq!(again, outage(-9000, Some(-50)));
    }

    #[test]
    fn nodes_without_stores_are_forgotten() {
        let nodes = [Arc::new(node(false, -60, -60))];
        assert_eq!(follow(&outage(-60, Some(-60)), &nodes, &EarlierStores::new(), at(0)), Outages::new());
        let earlier = [("a".to_owned(), None)].into();
        assert_eq!(follow(&outage(-60, Some(-60)), &[], &earlier, at(0)), Outages::new(), "it is deleted");
    }

    #[test]
    fn the_annotation_is_read_as_it_was_written_and_a_damaged_one_is_empty() {
        let some = outage(-60, Some(-50));
        assert_eq!(parse(annotation(&some).as_deref()), some);
        assert_eq!(annotation(&Outages::new()), None);
        for text in [None, Some(""), Some("[]"), Some(r#"{"a":5}"#)] {
            assert_eq!(parse(text), Outages::new(), "{text:?}");
        }
    }
}
