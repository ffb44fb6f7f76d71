//! Stores of a resource, and the bundles that they hold, as text. Pure.

use std::fmt::Write as _;

use super::{Colour, Colours, sanitize};
use crate::api::conditions::STORE_READY;
use crate::crd::BundleReason;
use crate::install::status::StatusSnapshot;

/// Draws the stores, and beneath them the bundles that they hold.
pub(super) fn draw(text: &mut String, snapshot: &StatusSnapshot, colours: Colours) {
    let Some(store) = &snapshot.status.store else { return };
    let is_ready =
        snapshot.status.conditions.iter().any(|one| one.type_ == STORE_READY && one.status == "True");
    let state = if is_ready {
        colours.paint(Colour::Good, "Ready    ")
    } else {
        colours.paint(Colour::Busy, "not ready")
    };
    let nodes = sanitize(&store.nodes.join(", "));
    writeln!(text, "└─ stores                         {state}  {} on {nodes}", sanitize(&store.copies))
        .expect("writing to a string does not fail");
    let [missing, spreading] =
        [BundleReason::ContentMissing, BundleReason::Spreading].map(|reason| reason.to_string());
    for (at, one) in snapshot.bundles.iter().enumerate() {
        let branch = if at + 1 == snapshot.bundles.len() { "└─" } else { "├─" };
        let (colour, state) = match (one.available.as_str(), one.reason.as_str()) {
            ("True", _) => (Colour::Good, "Available".to_owned()),
            ("False", reason) if reason == missing => (Colour::Bad, "missing  ".to_owned()),
            // It passes by itself.
            ("False", reason) if reason == spreading => (Colour::Busy, format!("{reason:<9}")),
            ("False", reason) => (Colour::Bad, format!("{:<9}", sanitize(reason))),
            _ => (Colour::Busy, "unknown  ".to_owned()),
        };
        let known = |text: &str| if text.is_empty() { "?".to_owned() } else { sanitize(text) };
        writeln!(
            text,
            "   {branch} bundle {:<19}  {}  {} images, {} nodes",
            sanitize(&one.name),
            colours.paint(colour, &state),
            known(&one.images),
            known(&one.nodes),
        )
        .expect("writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::install::status::BundleSummary;

    fn bundle(name: &str, available: &str, reason: &str) -> BundleSummary {
        BundleSummary {
            name: name.into(),
            images: if available.is_empty() { String::new() } else { "1/2".into() },
            nodes: if available.is_empty() { String::new() } else { "3/3".into() },
            available: available.into(),
            reason: reason.into(),
            ..BundleSummary::default()
        }
    }

    #[test]
    fn stores_and_bundles_are_the_last_branch() {
        let status = json!({"store": {"copies": "2/3", "nodes": ["n1", "n2\u{1b}[2J"]}});
        let snapshot = StatusSnapshot {
            status: serde_json::from_value(status).unwrap(),
            bundles: vec![
                bundle("shop", "False", "ContentMissing"),
                bundle("pies", "False", "NameTaken"),
                bundle("cakes", "False", "Spreading"),
                bundle("tools", "", ""),
            ],
            ..StatusSnapshot::default()
        };
        let mut text = String::new();
        draw(&mut text, &snapshot, Colours(false));
        let expected = concat!(
            "└─ stores                         not ready  2/3 on n1, n2\\u{1b}[2J\n",
            "   ├─ bundle shop                 missing    1/2 images, 3/3 nodes\n",
            "   ├─ bundle pies                 NameTaken  1/2 images, 3/3 nodes\n",
            "   ├─ bundle cakes                Spreading  1/2 images, 3/3 nodes\n",
            "   └─ bundle tools                unknown    ? images, ? nodes\n",
        );
        assert_eq!(text, expected);
        let mut none = String::new();
        draw(&mut none, &StatusSnapshot::default(), Colours(false));
        assert_eq!(none, "");
    }
}
