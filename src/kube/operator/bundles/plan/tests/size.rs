//! Bundles that do not fit into one `ConfigMap`.

use super::*;
use crate::operator::bundles::documents::MAX_DOCUMENT_BYTES;

/// A bundle of 256 long names, which takes about 150 kB.
fn large(name: &str, second: i64, version: u64) -> ObservedBundle {
    let names: Vec<String> = (0..256)
        .map(|at| format!("ghcr.io/{name}/{}/{at}:1", "long-name-".repeat(15).trim_end_matches('-')))
        .collect();
    let names: Vec<(&str, u64)> =
        names.iter().zip(version * 1000..).map(|(name, number)| (name.as_str(), number)).collect();
    bundle(name, second, &names)
}

#[test]
fn what_does_not_fit_is_refused_and_the_documents_stay_small() {
    let bundles: Vec<_> = (0..12).map(|at| large(&format!("b{at:02}"), at, 1)).collect();
    let plan = planned(&bundles, None);
    let size: usize = plan.maps[0].data.values().map(String::len).sum();
    assert!(size <= MAX_DOCUMENT_BYTES && size > MAX_DOCUMENT_BYTES / 2, "{size}");
    let refused: Vec<_> = plan.bundles.iter().filter(|bundle| bundle.refusal.is_some()).collect();
    assert!(!refused.is_empty() && refused.len() < 12);
    assert_eq!(reason(&plan, "b00"), None, "the oldest one fits");
    assert_eq!(reason(&plan, "b11"), Some(BundleReason::TooLarge));
    assert!(message(&plan, "b11").contains("ConfigMap larder-names"), "{}", message(&plan, "b11"));
    assert!(refused.iter().all(|bundle| bundle.names.is_empty()), "all names of a bundle count, or none");
    assert_eq!(names(&plan).len(), (12 - refused.len()) * 256);
}

#[test]
fn stores_remove_nothing_while_a_bundle_does_not_fit() {
    let (mut bundles, first) = full();
    assert!(!document(&first).partial);
    bundles.push(large("late", 99, 1));
    let second = planned(&bundles, Some(&first));
    assert_eq!(reason(&second, "late"), Some(BundleReason::TooLarge));
    assert!(document(&second).partial && second.maps[0].needs_write);
    assert!(message(&second, "late").ends_with(NOTHING_REMOVED), "{}", message(&second, "late"));
    bundles.pop();
    let third = planned(&bundles, Some(&second));
    assert!(!document(&third).partial && third.maps[0].needs_write, "what nothing needs may go again");
}

#[test]
fn names_come_before_the_history_of_any_bundle() {
    let of = |version| -> Vec<_> { (0..5).map(|at| large(&format!("b{at:02}"), at, version)).collect() };
    let mut plan = planned(&of(1), None);
    for version in 2..4 {
        let bundles: Vec<_> = of(version).into_iter().map(|bundle| keeping(bundle, 10)).collect();
        plan = planned(&bundles, Some(&plan));
        let size: usize = plan.maps[0].data.values().map(String::len).sum();
        assert!(size <= MAX_DOCUMENT_BYTES, "{size}");
        assert!(plan.bundles.iter().all(|bundle| bundle.refusal.is_none()));
    }
    let cut = |bundle: &BundlePlan| bundle.complaint.as_ref().map(|complaint| complaint.reason);
    assert_eq!(cut(plan.bundles.last().unwrap()), Some(BundleReason::HistoryCut));
}

/// Twelve bundles of which not all fit, and the plan after the first pass.
fn full() -> (Vec<ObservedBundle>, NamespacePlan) {
    let bundles: Vec<_> = (0..12).map(|at| large(&format!("b{at:02}"), at, 1)).collect();
    let plan = planned(&bundles, None);
    let served = |bundle: &&ObservedBundle| reason(&plan, &bundle.uid).is_none();
    let bundles: Vec<_> = bundles.iter().filter(served).cloned().collect();
    let plan = planned(&bundles, Some(&plan));
    (bundles, plan)
}

#[test]
fn a_bundle_that_is_older_takes_no_room_from_names_that_are_served() {
    let (mut bundles, first) = full();
    let served = names(&first);
    // It was refused before, or its names were few.
    bundles.insert(0, large("older", -1, 1));
    let second = planned(&bundles, Some(&first));
    assert_eq!(reason(&second, "older"), Some(BundleReason::TooLarge));
    assert_eq!(names(&second), served);
    assert!(second.bundles.iter().filter(|bundle| bundle.uid != "older").all(|one| one.refusal.is_none()));
}

#[test]
fn an_upgrade_that_does_not_fit_keeps_the_former_names_and_the_history() {
    let (mut bundles, first) = full();
    // The oldest bundle has a history, for which the youngest one makes room.
    bundles.pop();
    bundles[0] = large("b00", 0, 2);
    let second = planned(&bundles, Some(&first));
    assert_eq!(reason(&second, "b00"), None);
    let former = second.bundles.iter().find(|bundle| bundle.uid == "b00").unwrap().previous.clone();
    assert!(!former.is_empty());
    // All former names, and many more.
    let mut larger = large("b00", 0, 2);
    let more = ["x", "y", "z"].map(|more| large(&format!("b00{more}"), 0, 2).spec.unwrap().names);
    larger.spec.as_mut().unwrap().names.extend(more.into_iter().flatten());
    bundles[0] = larger;
    let third = planned(&bundles, Some(&second));
    assert_eq!(reason(&third, "b00"), Some(BundleReason::TooLarge));
    assert!(
        message(&third, "b00").contains("the former names (256) are served on"),
        "{}",
        message(&third, "b00")
    );
    assert_eq!(names(&third), names(&second));
    let plan = third.bundles.iter().find(|bundle| bundle.uid == "b00").unwrap();
    assert_eq!((plan.names.len(), plan.total), (256, 1024));
    assert_eq!(plan.previous, former);
    assert!(third.maps[0].needs_write && document(&third).partial, "stores must keep what was loaded");
    assert!(!planned(&bundles, Some(&third)).maps[0].needs_write, "nothing has changed for the nodes");
    // It fits when there is room again.
    let alone = planned(&bundles[..1], Some(&third));
    assert_eq!((reason(&alone, "b00"), names(&alone).len()), (None, 1024));
}

#[test]
fn a_former_name_goes_to_an_older_bundle_that_wants_it() {
    let (mut bundles, first) = full();
    let last = bundles.len() - 1;
    let uid = bundles[last].uid.clone();
    let name = bundles[last].spec.as_ref().unwrap().names[0].text.clone();
    let more = large("more", 0, 1).spec.unwrap().names;
    bundles[last].spec.as_mut().unwrap().names.extend(more.clone());
    bundles[last].spec.as_mut().unwrap().names.extend(large("much", 0, 1).spec.unwrap().names);
    bundles[0] = bundle("b00", 0, &[(&name, 77)]);
    let second = planned(&bundles, Some(&first));
    let digest_of = |plan: &NamespacePlan| {
        document(plan).names.into_iter().find(|one| one.name == name).map(|one| one.digest)
    };
    assert_eq!(digest_of(&second), Some(digest(77)));
    assert_eq!(names(&second).iter().filter(|one| **one == name).count(), 1);
    assert!(matches!(reason(&second, &uid), Some(BundleReason::TooLarge | BundleReason::NameTaken)));
}
