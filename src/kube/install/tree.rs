//! The status of a resource as text for a terminal: generations, nodes, problems and advice. Pure.

mod stores;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use quinistry_oci::escape;

use super::advice::advice_for;
use super::operators::WriterState;
use super::status::{Presence, StatusSnapshot};
use crate::api::conditions::{DEGRADED, FIXED_POINT, PORTS_AVAILABLE, READY, STORE_READY};
use crate::api::names::operator_selector;
use crate::crd::{GenerationState, QuinistryStatus};
use crate::operator::generation_zero::ResourceProblem;
use crate::sorted::Sorted as _;

/// Colours of the text: true to show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours(pub bool);

#[derive(Clone, Copy)]
enum Colour {
    Good,
    Busy,
    Bad,
    Faint,
}

// === impl Colours ===

impl Colours {
    fn paint(self, colour: Colour, text: &str) -> String {
        if !self.0 {
            return text.into();
        }
        let code = match colour {
            Colour::Good => 32,
            Colour::Busy => 33,
            Colour::Bad => 31,
            Colour::Faint => 2,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Draws all lines, each with its line break.
#[must_use]
pub fn draw(snapshot: &StatusSnapshot, colours: Colours) -> String {
    let mut text = headline_of(snapshot, colours);
    draw_generations(&mut text, snapshot, colours);
    stores::draw(&mut text, snapshot, colours);
    draw_nodes(&mut text, snapshot, colours);
    draw_problems(&mut text, snapshot, colours);
    text
}

fn headline_of(snapshot: &StatusSnapshot, colours: Colours) -> String {
    let status = &snapshot.status;
    let condition = status.conditions.iter().find(|one| one.type_ == READY);
    let (colour, word) = match condition {
        _ if snapshot.operator.state == WriterState::Gone => (Colour::Bad, "Unknown"),
        _ if snapshot.ready => (Colour::Good, "Ready"),
        _ if snapshot.behind > 0 => (Colour::Bad, "not ready"),
        Some(condition) if condition.status == "False" => (Colour::Busy, "not ready"),
        _ => (Colour::Busy, "not observed"),
    };
    let mut parts = vec![format!("{}/{}", snapshot.namespace, snapshot.name), colours.paint(colour, word)];
    if !status.generations.is_empty() {
        parts.push(QuinistryStatus::headline(&status.generations, snapshot.generations));
    }
    if let Some(digest) = &status.digest {
        parts.push(short(digest));
    }
    let reason = condition.filter(|_| !snapshot.ready && snapshot.behind == 0);
    parts.extend(reason.map(|condition| condition.reason.clone()));
    parts.join("  ") + "\n"
}

fn draw_generations(text: &mut String, snapshot: &StatusSnapshot, colours: Colours) {
    let generations = &snapshot.status.generations;
    for (at, one) in generations.iter().enumerate() {
        let is_last = at + 1 == generations.len() && snapshot.status.store.is_none();
        let branch = if is_last { "└─" } else { "├─" };
        let (colour, state) = match one.state {
            GenerationState::Waiting => (Colour::Faint, "Waiting  "),
            GenerationState::Rolling => (Colour::Busy, "Rolling  "),
            GenerationState::Verifying => (Colour::Busy, "Verifying"),
            GenerationState::Ready => (Colour::Good, "Ready    "),
            GenerationState::Failed => (Colour::Bad, "Failed   "),
        };
        let mut line = format!(
            "{branch} generation {:<2}  localhost:{:<5}  {}  {}/{} nodes",
            one.generation,
            one.port,
            colours.paint(colour, state),
            one.available,
            one.desired,
        );
        if one.verified > 0 {
            write!(line, "  {} verified", one.verified).expect("writing to a string does not fail");
        }
        let proofs: Vec<String> = one.proofs.iter().map(|proof| format!("{proof:?}")).collect();
        if !proofs.is_empty() {
            line = format!("{line}  {}", colours.paint(Colour::Faint, &proofs.join(" ")));
        }
        text.push_str(&line);
        text.push('\n');
    }
}

fn draw_nodes(text: &mut String, snapshot: &StatusSnapshot, colours: Colours) {
    let mut generations = snapshot.nodes.values().flat_map(|node| node.keys().copied()).into_set();
    generations.extend(snapshot.status.generations.iter().map(|one| one.generation));
    let Some(width) = snapshot.nodes.keys().map(|name| name.chars().count()).max() else { return };
    write!(text, "\n{:width$}", "").expect("writing to a string does not fail");
    for generation in &generations {
        write!(text, " {generation:>2}").expect("writing to a string does not fail");
    }
    text.push('\n');
    for (name, node) in &snapshot.nodes {
        write!(text, "{name:width$}").expect("writing to a string does not fail");
        for generation in &generations {
            let (colour, sign) = match node.get(generation) {
                Some(Presence::Ready) => (Colour::Good, "✓"),
                Some(Presence::Starting) => (Colour::Busy, "…"),
                Some(Presence::Failing) => (Colour::Bad, "✗"),
                None => (Colour::Faint, "–"),
            };
            write!(text, "  {}", colours.paint(colour, sign)).expect("writing to a string does not fail");
        }
        text.push('\n');
    }
}

/// Draws the problems, and once per reason the advice.
fn draw_problems(text: &mut String, snapshot: &StatusSnapshot, colours: Colours) {
    let status = &snapshot.status;
    let mut shown = BTreeSet::new();
    let mut lines = String::new();
    let operators = operator_selector();
    if snapshot.operator.state == WriterState::Gone {
        let since = snapshot.written.as_ref().map(|time| format!(" (of {time})")).unwrap_or_default();
        writeln!(
            lines,
            "{}: {}; what is shown here is the last that it said{since}\n→ `kubectl get pods --all-namespaces \
             --selector {operators}` shows its pods",
            colours.paint(Colour::Bad, "the operator is gone"),
            sanitize(&snapshot.operator.message)
        )
        .expect("writing to a string does not fail");
    }
    if snapshot.behind > 0 {
        writeln!(
            lines,
            "{} pods are missing or not ready, and the operator has not said so: is it at work? `kubectl get pods \
             --all-namespaces --selector {operators}` shows it",
            snapshot.behind
        )
        .expect("writing to a string does not fail");
    }
    for one in &status.deviations {
        // A pod that is not for one node has a deviation without a node.
        let location = if one.node.is_empty() { String::new() } else { format!("{}, ", one.node) };
        let reason = colours.paint(Colour::Bad, &one.reason.to_string());
        let message = sanitize(&one.message);
        writeln!(lines, "{location}generation {}: {reason}: {message}", one.generation)
            .expect("writing to a string does not fail");
        shown.insert(one.reason);
    }
    if let Some(ResourceProblem { reason, message }) = &snapshot.trouble {
        let painted = colours.paint(Colour::Bad, &reason.to_string());
        writeln!(lines, "generation 0: {painted}: {}", sanitize(message))
            .expect("writing to a string does not fail");
        shown.insert(*reason);
    }
    for condition in &status.conditions {
        let wrong = match condition.type_.as_str() {
            DEGRADED => condition.status == "True",
            PORTS_AVAILABLE | FIXED_POINT | STORE_READY => condition.status == "False",
            _ => false,
        };
        let reason = serde_json::from_value(condition.reason.clone().into()).ok();
        // Unless a deviation has shown the same reason.
        if wrong && reason.is_none_or(|reason| shown.insert(reason)) {
            let message = sanitize(&condition.message);
            let reason = colours.paint(Colour::Bad, &sanitize(&condition.reason));
            writeln!(lines, "{}: {reason}: {message}", condition.type_)
                .expect("writing to a string does not fail");
        }
    }
    for one in snapshot.bundles.iter().filter(|one| one.available == "False") {
        let reason = colours.paint(Colour::Bad, &sanitize(&one.reason));
        writeln!(lines, "bundle {}: {reason}: {}", sanitize(&one.name), sanitize(&one.message))
            .expect("writing to a string does not fail");
    }
    for reason in shown {
        if let Some(advice) = advice_for(reason) {
            let advice = advice.replace("NAMESPACE", &snapshot.namespace);
            writeln!(lines, "→ {reason}: {advice}").expect("writing to a string does not fail");
        }
    }
    if !lines.is_empty() {
        text.push('\n');
        text.push_str(&lines);
    }
}

/// Summarizes the problems in one line, for an error.
#[must_use]
pub fn summary(snapshot: &StatusSnapshot) -> String {
    let mut text = String::new();
    draw_problems(&mut text, snapshot, Colours(false));
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        let behind = snapshot.status.generations.iter().find(|one| one.state != GenerationState::Ready);
        return behind.map_or_else(
            || "nothing has been reported yet".into(),
            |one| {
                format!(
                    "generation {} is {:?}, available on {} of {} nodes",
                    one.generation, one.state, one.available, one.desired
                )
            },
        );
    }
    lines.join("; ")
}

/// Shortens a digest for display.
#[must_use]
pub fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) if hex.len() > 12 && hex.is_ascii() => {
            sanitize(&format!("{algorithm}:{}…", &hex[..12]))
        }
        _ => sanitize(digest),
    }
}

/// Escapes text from the cluster for a terminal.
fn sanitize(text: &str) -> String {
    escape::line(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::crd::Reason;
    use crate::install::StatusWriter;

    fn snapshot() -> StatusSnapshot {
        let generation = |number: i32, state: &str, available: i32| {
            json!({
                "generation": number, "daemonSet": "larder", "port": 4999 + number, "image": "a:1", "state": state,
                "desired": 2, "updated": 2, "available": available, "verified": available,
                "proofs": if available == 2 { json!(["Readiness", "Fetched"]) } else { json!([]) },
            })
        };
        let status = json!({
            "ready": "1/2", "digest": format!("sha256:{}", "c7d544cf4cb8".repeat(5)),
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "RollingOut", "message": "",
                    "lastTransitionTime": "2025-01-01T00:00:00Z"},
                {"type": "Degraded", "status": "True", "reason": "ImagePullFailed", "message": "n2",
                    "lastTransitionTime": "2025-01-01T00:00:00Z"},
            ],
            "generations": [generation(0, "Ready", 2), generation(1, "Rolling", 1)],
            "deviations": [{"node": "node-2", "generation": 1, "reason": "ImagePullFailed", "message": "no\u{1b}[2J"}],
        });
        StatusSnapshot {
            namespace: "pantry".into(),
            name: "larder".into(),
            generations: 1,
            status: serde_json::from_value(status).unwrap(),
            ready: false,
            behind: 0,
            operator: StatusWriter::default(),
            written: Some("2026-01-01T00:00:00Z".into()),
            trouble: None,
            nodes: [
                ("n1".into(), [(0, Presence::Ready), (1, Presence::Ready)].into()),
                ("node-2".into(), [(0, Presence::Ready), (1, Presence::Failing)].into()),
                ("n3".into(), [(0, Presence::Starting)].into()),
            ]
            .into(),
            bundles: Vec::new(),
        }
    }

    #[test]
    fn what_is_wrong_with_the_whole_resource_is_shown_without_a_node() {
        let trouble = ResourceProblem { reason: Reason::NoNodes, message: "no node is selected".into() };
        let status = QuinistryStatus::default();
        let text = summary(&StatusSnapshot { trouble: Some(trouble), status, ..snapshot() });
        assert!(text.starts_with("generation 0: NoNodes: no node is selected"), "{text}");
        assert!(text.contains("→ NoNodes: look at nodeSelector"), "{text}");
    }

    #[test]
    fn the_tree_shows_generations_nodes_and_what_to_do() {
        let expected = "\
pantry/larder  not ready  0/1  sha256:c7d544cf4cb8…  RollingOut
├─ generation 0   localhost:4999   Ready      2/2 nodes  2 verified  Readiness Fetched
└─ generation 1   localhost:5000   Rolling    1/2 nodes  1 verified

        0  1
n1      ✓  ✓
n3      …  –
node-2  ✓  ✗

node-2, generation 1: ImagePullFailed: no\\u{1b}[2J
→ ImagePullFailed: look at the runtime's mirrors for localhost, and at the predecessor on that node
";
        assert_eq!(draw(&snapshot(), Colours(false)), expected);
    }

    #[test]
    fn an_operator_that_has_not_looked_is_named() {
        let behind = StatusSnapshot { behind: 2, ..snapshot() };
        let text = draw(&behind, Colours(false));
        assert!(text.starts_with("pantry/larder  not ready  0/1"), "{text}");
        assert!(text.contains("2 pods are missing or not ready"), "{text}");
        assert!(
            text.contains("kubectl get pods --all-namespaces --selector app.kubernetes.io/name=quinistry"),
            "{text}"
        );
    }

    #[test]
    fn an_operator_that_is_gone_is_said_and_nothing_is_ready() {
        let operator =
            StatusWriter { state: WriterState::Gone, message: "operator a/b has no available pod".into() };
        let text = draw(&StatusSnapshot { operator, ready: true, ..snapshot() }, Colours(false));
        assert!(text.starts_with("pantry/larder  Unknown  0/1"), "{text}");
        let line = "the operator is gone: operator a/b has no available pod; what is shown here is the last that it \
                    said (of 2026-01-01T00:00:00Z)";
        assert!(text.lines().any(|one| one == line), "{text}");
    }

    #[test]
    fn colours_are_shown_only_where_they_are_wanted() {
        assert!(!draw(&snapshot(), Colours(false)).contains('\u{1b}'));
        assert!(draw(&snapshot(), Colours(true)).contains("\u{1b}[31m✗\u{1b}[0m"));
    }

    #[test]
    fn what_is_waited_for_is_told_in_a_line() {
        assert!(summary(&snapshot()).starts_with("node-2, generation 1: ImagePullFailed"));
        assert_eq!(summary(&StatusSnapshot::default()), "nothing has been reported yet");
        let mut quiet = snapshot();
        quiet.status.deviations.clear();
        quiet.status.conditions.clear();
        assert_eq!(summary(&quiet), "generation 1 is Rolling, available on 1 of 2 nodes");
    }
}
