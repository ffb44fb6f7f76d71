//! States of images, and what they mean for readiness.

use super::*;

fn image(name: &str) -> ContentKey {
    (name.parse().unwrap(), Digest::sha256(name.as_bytes()))
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

/// Ledger with images that were looked for, and the time of its start.
fn ledger(images: &[(&ContentKey, Held)]) -> (Ledger, Instant) {
    let now = Instant::now();
    let mut ledger = Ledger::new(now);
    ledger.follow(Some(digest("names")), || images.iter().map(|(image, _)| (*image).clone()).collect(), now);
    for (image, held) in images {
        ledger.note_look(image, *held, now);
    }
    (ledger, now)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn counts(ledger: &mut Ledger, now: Instant) -> (bool, [usize; 3]) {
    let report = ledger.report(now);
    (report.ready, [report.complete, report.copying, report.absent])
}

#[test]
fn a_store_without_names_is_ready_once_it_has_read_them() {
    let now = Instant::now();
    let mut ledger = Ledger::new(now);
    assert!(!ledger.report(now).ready);
    ledger.follow(None, BTreeSet::new, now);
    assert!(ledger.report(now).ready);
}

#[test]
fn a_store_that_has_everything_is_ready_at_once() {
    let (a, b) = (image("a"), image("b"));
    let (mut ledger, now) = ledger(&[(&a, Held::Whole), (&b, Held::Sparse)]);
    assert_eq!(counts(&mut ledger, now), (true, [2, 0, 0]));
    // Peers are asked for the children that are missing.
    assert_eq!(ledger.next_copy(now), Some(b));
}

#[test]
fn the_first_look_ends_with_an_answer_about_each_image() {
    let (a, b) = (image("a"), image("b"));
    let (mut ledger, now) = ledger(&[(&a, Held::Whole), (&b, Held::Lacking)]);
    ledger.note_answer(now + seconds(20));
    assert_eq!(counts(&mut ledger, now + seconds(40)), (false, [1, 0, 1]));
    assert!(ledger.note_absent(&b, "nowhere", now + seconds(40)));
    assert_eq!(counts(&mut ledger, now + seconds(40)), (true, [1, 0, 1]));
}

#[test]
fn the_first_look_ends_after_thirty_seconds_without_an_answer() {
    let a = image("a");
    let (mut ledger, now) = ledger(&[(&a, Held::Lacking)]);
    ledger.note_unanswered(&a, now);
    assert!(!ledger.report(now + seconds(29)).ready);
    assert!(ledger.report(now + seconds(30)).ready);
    // An image that a later file names makes no second first look.
    ledger.follow(Some(digest("more")), || [image("a"), image("c")].into(), now + seconds(31));
    assert!(ledger.report(now + seconds(31)).ready);
}

#[test]
fn a_store_that_copies_is_not_ready_while_peers_answer() {
    let (a, b) = (image("a"), image("b"));
    let (mut ledger, now) = ledger(&[(&a, Held::Lacking)]);
    assert_eq!(ledger.next_copy(now), Some(a.clone()));
    assert!(ledger.note_found(&a));
    assert!(!ledger.note_found(&a), "it was found before");
    ledger.note_answer(now + seconds(29));
    assert_eq!(counts(&mut ledger, now + seconds(58)), (false, [0, 1, 0]));
    assert!(ledger.note_complete(&a, false, now + seconds(58)));
    assert_eq!(counts(&mut ledger, now + seconds(58)), (true, [1, 0, 0]));
    assert_eq!(ledger.next_copy(now + seconds(58)), None);
    // Later names, after a time in which nothing was asked.
    let now = now + seconds(1000);
    ledger.follow(Some(digest("more")), || [a.clone(), b.clone()].into(), now);
    ledger.note_look(&b, Held::Lacking, now);
    ledger.note_found(&b);
    assert_eq!(counts(&mut ledger, now + seconds(9)), (false, [1, 1, 0]));
    ledger.note_answer(now + seconds(9));
    assert!(!ledger.report(now + seconds(18)).ready);
    assert!(ledger.report(now + seconds(19)).ready);
}

#[test]
fn a_store_that_silence_has_made_ready_stays_so_until_it_lacks_nothing() {
    let (a, b, c) = (image("a"), image("b"), image("c"));
    let (mut ledger, now) = ledger(&[(&a, Held::Lacking), (&b, Held::Lacking)]);
    ledger.note_found(&a);
    // The answer ends a silence that was not reported.
    ledger.note_answer(now + seconds(31));
    assert!(ledger.report(now + seconds(32)).ready);
    assert!(ledger.note_complete(&a, false, now + seconds(33)));
    ledger.note_found(&b);
    ledger.note_answer(now + seconds(34));
    assert_eq!(counts(&mut ledger, now + seconds(35)), (true, [1, 1, 0]));
    assert!(ledger.note_complete(&b, false, now + seconds(36)));
    ledger.follow(Some(digest("more")), || [a, b, c].into(), now + seconds(37));
    assert!(!ledger.report(now + seconds(37)).ready);
}

#[test]
fn a_store_is_not_ready_between_two_images_of_a_copy() {
    let (a, b, c) = (image("a"), image("b"), image("c"));
    let (mut ledger, now) = ledger(&[(&a, Held::Whole)]);
    assert!(ledger.report(now).ready);
    ledger.follow(Some(digest("more")), || [a, b.clone(), c.clone()].into(), now);
    assert!(!ledger.report(now).ready, "nothing is known of new images");
    for image in [&b, &c] {
        ledger.note_look(image, Held::Lacking, now);
    }
    assert_eq!(counts(&mut ledger, now), (false, [1, 0, 2]));
    ledger.note_found(&b);
    ledger.note_complete(&b, false, now);
    assert_eq!(counts(&mut ledger, now), (false, [2, 0, 1]));
    ledger.note_absent(&c, "nowhere", now);
    assert_eq!(counts(&mut ledger, now), (true, [2, 0, 1]));
}

#[test]
fn peers_are_asked_during_a_long_copy_whether_they_are_there() {
    let a = image("a");
    let (mut ledger, now) = ledger(&[(&a, Held::Lacking)]);
    assert_eq!(ledger.probe(now + seconds(5)), None, "it is asked for anyway");
    ledger.note_found(&a);
    ledger.note_answer(now + seconds(5));
    assert_eq!(ledger.probe(now + seconds(7)), None);
    assert_eq!(ledger.probe(now + seconds(8)), Some(a));
    assert!(ledger.report(now + seconds(35)).ready);
    assert_eq!(ledger.probe(now + seconds(35)), None, "the store is ready");
}

#[test]
fn an_absent_image_is_asked_for_more_and_more_rarely_and_reported_once_for_each_reason() {
    let a = image("a");
    let (mut ledger, mut now) = ledger(&[(&a, Held::Lacking)]);
    for wait in [10, 20, 40, 60, 60] {
        assert_eq!(ledger.next_copy(now), Some(a.clone()));
        let is_new = ledger.note_absent(&a, "nowhere", now);
        assert_eq!(is_new, wait == 10);
        assert_eq!(
            ledger.next_copy(now + seconds(wait).checked_sub(Duration::from_millis(1)).unwrap()),
            None
        );
        now += seconds(wait);
    }
    assert!(ledger.note_absent(&a, "a blob is nowhere", now));
    assert_eq!(ledger.next_copy(now + seconds(10)), Some(a.clone()));
    // Other names may come with content.
    ledger.follow(Some(digest("more")), || [a.clone()].into(), now + seconds(1));
    assert_eq!(ledger.next_copy(now + seconds(1)), Some(a.clone()));
    let lacking = &ledger.report(now).lacking[0];
    assert_eq!((lacking.state, lacking.reason.as_deref()), ("absent", Some("a blob is nowhere")));
}

#[test]
fn an_index_without_some_children_is_complete_and_asked_for_rarely() {
    let a = image("a");
    let (mut ledger, mut now) = ledger(&[(&a, Held::Lacking)]);
    assert!(ledger.note_complete(&a, true, now));
    for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
        assert_eq!(
            ledger.next_copy(now + seconds(wait).checked_sub(Duration::from_millis(1)).unwrap()),
            None,
            "{wait}"
        );
        now += seconds(wait);
        assert_eq!(ledger.next_copy(now), Some(a.clone()));
        assert!(!ledger.note_complete(&a, true, now));
    }
    // A child whose blobs are nowhere does not take away what is served.
    ledger.note_absent(&a, "a blob of another child is nowhere", now);
    assert_eq!(counts(&mut ledger, now), (true, [1, 0, 0]));
}

#[test]
fn images_that_are_not_named_any_more_are_forgotten_and_others_stay_complete() {
    let (a, b, c) = (image("a"), image("b"), image("c"));
    let (mut ledger, now) = ledger(&[(&a, Held::Whole), (&b, Held::Whole)]);
    ledger.follow(Some(digest("names")), || panic!("the names are the same"), now);
    ledger.follow(Some(digest("more")), || [b, c.clone()].into(), now);
    assert_eq!(ledger.due_looks(now), std::slice::from_ref(&c));
    ledger.note_look(&c, Held::Lacking, now);
    assert_eq!(ledger.due_looks(now), []);
    assert_eq!(ledger.next_copy(now), Some(c));
    let report = ledger.report(now);
    assert_eq!((report.images, report.complete, report.names), (2, 1, Some(digest("more"))));
}

#[test]
fn an_image_that_loses_a_part_is_copied_again() {
    let a = image("a");
    let (mut ledger, now) = ledger(&[(&a, Held::Whole)]);
    let later = now + COMPLETE_WAIT;
    assert_eq!(ledger.due_looks(later), std::slice::from_ref(&a));
    ledger.note_look(&a, Held::Lacking, later);
    assert_eq!(ledger.next_copy(later), Some(a));
}

#[test]
fn a_report_lists_a_hundred_images_at_most() {
    let images: BTreeSet<_> = (0..200).map(|number| image(&format!("image{number}"))).collect();
    let now = Instant::now();
    let mut ledger = Ledger::new(now);
    ledger.follow(None, || images, now);
    let report = ledger.report(now);
    assert_eq!((report.images, report.absent, report.lacking.len()), (200, 200, 100));
}
