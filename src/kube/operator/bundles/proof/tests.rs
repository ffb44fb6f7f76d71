use std::time::Instant;

use quinistry_oci::Digest;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn image(number: usize) -> Image {
    Image { repository: "ghcr.io/acme/shop".parse().unwrap(), digest: Digest::sha256(&number.to_be_bytes()) }
}

fn images(count: usize) -> Vec<Image> {
    (0..count).map(image).collect()
}

fn names(count: usize) -> Vec<ParsedName> {
    let name = |number: usize| ParsedName {
        text: format!("ghcr.io/acme/shop:{number:03}"),
        tag: format!("{number:03}").parse().unwrap(),
        image: image(number),
    };
    (0..count).map(name).collect()
}

fn nodes(count: usize) -> Vec<AskableNode> {
    (0..count).map(|at| AskableNode { node: format!("node-{at:02}"), ip: format!("10.0.0.{at}") }).collect()
}

fn begun(count: usize, now: Instant) -> RegistryProof {
    let mut proof = RegistryProof::default();
    assert!(proof.set_images(&images(count), false, now));
    proof
}

/// Asks for one round, and lets nodes answer. Returns the names of the nodes, and the number of requests.
fn round(
    proof: &mut RegistryProof,
    nodes: &[AskableNode],
    now: Instant,
    serves: impl Fn(&str, &Image) -> bool,
) -> (Vec<String>, usize) {
    let questions = proof.choose(nodes, now);
    let requests = questions.iter().map(|question| question.images.len()).sum();
    for question in &questions {
        let node = &question.node.node;
        let answer = |image: &Arc<Image>| (image.clone(), serves(node, image));
        proof.record(node, question.images.iter().map(answer).collect(), now);
    }
    (questions.into_iter().map(|question| question.node.node).collect(), requests)
}

#[test]
fn rounds_reach_all_nodes_and_then_rest_until_answers_are_old() {
    let (start, nodes) = (Instant::now(), nodes(12));
    let mut proof = begun(10, start);
    let mut seen = BTreeSet::new();
    for minute in 0..3 {
        let (asked, requests) = round(&mut proof, &nodes, start + minute * MINUTE, |_, _| true);
        assert!(asked.len() <= NODES_PER_ROUND && requests == asked.len() * 10, "{asked:?}");
        seen.extend(asked);
    }
    assert_eq!(seen.len(), 12);
    let summary = proof.summary(&names(10), start + 3 * MINUTE);
    assert_eq!((summary.asked, summary.serving, summary.served_names), (12, 12, 10));
    assert_eq!(round(&mut proof, &nodes, start + 3 * MINUTE, |_, _| true).1, 0);
    let (again, _) = round(&mut proof, &nodes, start + 10 * MINUTE, |_, _| true);
    assert_eq!(again, ["node-00", "node-01", "node-02", "node-03", "node-04"]);
}

#[test]
fn fifty_nodes_and_twenty_bundles_cost_three_hundred_requests_a_minute_at_most() {
    let (start, nodes) = (Instant::now(), nodes(50));
    let mut proof = begun(240, start);
    let mut asked = BTreeSet::new();
    for minute in 0..40 {
        // Several rounds within a minute share its requests.
        let mut requests = 0;
        for part in 0..4 {
            let now = start + minute * MINUTE + part * MINUTE / 4;
            let (seen, count) = round(&mut proof, &nodes, now, |_, _| true);
            requests += count;
            asked.extend(seen);
        }
        assert!(requests <= REQUESTS_PER_PERIOD, "{requests}");
    }
    assert_eq!(asked.len(), 50, "all nodes within the lifetime of an answer");
    assert_eq!(proof.summary(&names(240), start + 40 * MINUTE).asked, 50);
}

#[test]
fn no_period_has_more_requests_than_the_page_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bundle-resource.md");
    let page = std::fs::read_to_string(page).unwrap();
    let sentence =
        format!("send at most {REQUESTS_PER_PERIOD} requests in any {} seconds", BUDGET_PERIOD.as_secs());
    assert!(page.contains(&sentence), "docs/bundle-resource.md lacks: {sentence}");
    let (start, nodes) = (Instant::now(), nodes(50));
    let mut proof = begun(240, start);
    let mut sent: Vec<(Instant, usize)> = Vec::new();
    // A small round begins a period, and large ones follow at its end and behind it.
    for seconds in [0, 59, 61, 75, 119, 121, 135, 181] {
        let now = start + Duration::from_secs(seconds);
        let asked = if seconds == 0 { &nodes[..1] } else { &nodes[..] };
        sent.push((now, round(&mut proof, asked, now, |_, _| true).1));
        let recent = sent.iter().filter(|(at, _)| now.duration_since(*at) < BUDGET_PERIOD);
        let requests: usize = recent.map(|(_, requests)| requests).sum();
        assert!(requests <= REQUESTS_PER_PERIOD, "{sent:?}");
    }
}

#[test]
fn a_new_image_is_asked_for_alone_and_first() {
    let (start, nodes) = (Instant::now(), nodes(3));
    let mut proof = begun(10, start);
    round(&mut proof, &nodes, start, |_, _| true);
    assert!(!proof.set_images(&images(10), true, start));
    assert!(proof.set_images(&images(11), true, start));
    assert_eq!(proof.summary(&names(11), start).asked, 0);
    assert_eq!(proof.summary(&names(10), start).asked, 3, "bundles without it are as they were");
    let questions = proof.choose(&nodes, start + MINUTE);
    assert!(questions.iter().all(|question| *question.images[0] == image(10) && question.images.len() == 1));
    assert_eq!(questions.len(), 3);
}

#[test]
fn a_node_that_lacks_an_image_has_a_name_once_it_must_have_read_the_names() {
    let (start, nodes) = (Instant::now(), nodes(3));
    let mut proof = RegistryProof::default();
    proof.set_images(&images(2), true, start);
    let lacks = |node: &str, asked: &Image| node != "node-01" || *asked != image(1);
    round(&mut proof, &nodes, start, lacks);
    assert!(proof.is_spreading(start));
    let early = proof.summary(&names(2), start + MINUTE);
    assert_eq!((early.asked, early.serving, early.spreading, early.absent.len()), (3, 2, 1, 0));
    assert_eq!(early.served_names, 1);
    let late = start + 3 * MINUTE;
    assert!(!proof.is_spreading(late));
    let absent = AbsentNames { node: "node-01".into(), first: "ghcr.io/acme/shop:001".into(), count: 1 };
    assert_eq!(proof.summary(&names(2), late).absent, [absent]);
    // It is asked again in each round, for that image alone.
    let questions = proof.choose(&nodes, late);
    assert_eq!(questions[0].node.node, "node-01");
    assert_eq!(questions[0].images.iter().map(|image| (**image).clone()).collect::<Vec<_>>(), [image(1)]);
    assert!(proof.record("node-01", vec![(Arc::new(image(1)), true)], late));
    assert!(!proof.record("node-01", vec![(Arc::new(image(1)), true)], late));
    assert_eq!(proof.summary(&names(2), late).serving, 3);
}

#[test]
fn images_that_were_there_before_the_operator_are_not_spreading() {
    let now = Instant::now();
    let mut proof = begun(1, now);
    round(&mut proof, &nodes(1), now, |_, _| false);
    assert!(!proof.is_spreading(now));
    assert_eq!(proof.summary(&names(1), now).absent.len(), 1);
}

#[test]
fn failing_nodes_do_not_keep_others_from_being_asked() {
    let (start, nodes) = (Instant::now(), nodes(20));
    let mut proof = begun(1, start);
    let mut seen = BTreeSet::new();
    for minute in 0..8 {
        let (asked, _) = round(&mut proof, &nodes, start + minute * MINUTE, |_, _| false);
        assert_eq!(asked.len(), NODES_PER_ROUND);
        seen.extend(asked);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn answers_end_with_their_node_their_name_and_their_lifetime() {
    let (start, three) = (Instant::now(), nodes(3));
    let mut proof = begun(2, start);
    round(&mut proof, &three, start, |_, _| true);
    let asked = |proof: &RegistryProof, now| proof.summary(&names(1), now).asked;
    assert_eq!((asked(&proof, start), asked(&proof, start + 60 * MINUTE)), (3, 0));
    proof.choose(&nodes(2), start + MINUTE);
    assert_eq!(asked(&proof, start + MINUTE), 2);
    proof.set_images(&images(0), false, start);
    assert_eq!(asked(&proof, start), 0);
    assert!(proof.choose(&three, start + MINUTE).is_empty());
    // An answer that comes after the change is dropped.
    assert!(!proof.record("node-00", vec![(Arc::new(image(0)), true)], start));
}

#[test]
fn a_node_without_an_answer_stays_unknown_and_others_come_before_it() {
    let (start, nodes) = (Instant::now(), nodes(6));
    let mut proof = begun(1, start);
    let first = proof.choose(&nodes, start);
    assert_eq!(first.len(), 5);
    assert_eq!(proof.summary(&names(1), start), ProofSummary::default());
    let second = proof.choose(&nodes, start + MINUTE);
    assert_eq!(second[0].node.node, "node-05", "it was not asked yet");
}
