//! Answers of the nodes of one registry.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::{
    ANSWER_LIFETIME, AbsentNames, AskableNode, BUDGET_PERIOD, FAILING_NODES_PER_ROUND, NODES_PER_ROUND,
    ProofSummary, Question, RENEWAL_AGE, REQUESTS_PER_PERIOD, SPREADING_TIME, by_image,
};
use crate::operator::bundles::parse::{Image, ParsedName};

/// Answers of the nodes of one registry.
#[derive(Debug, Default)]
pub(in crate::operator::bundles) struct RegistryProof {
    /// Images that names stand for, each with the time at which it was added; `None` if it was there before
    /// this operator.
    images: BTreeMap<Arc<Image>, Option<Instant>>,
    nodes: BTreeMap<String, NodeAnswers>,
    /// Rounds of the last [`BUDGET_PERIOD`]: their times and numbers of requests.
    spent: VecDeque<(Instant, usize)>,
}

/// Answers of one node.
#[derive(Debug, Default)]
struct NodeAnswers {
    /// Time at which the node was asked last.
    asked: Option<Instant>,
    /// Answers by image: the time, and true if the node can serve it.
    answers: HashMap<Arc<Image>, (Instant, bool)>,
}

/// Urgency of a node, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Some images were asked for, and others not.
    Begun,
    /// No image was asked for.
    Unknown,
    /// Answers are old.
    Old,
    /// Some image cannot be served.
    Failing,
}

// === impl RegistryProof ===

impl RegistryProof {
    /// Sets the images to ask for. Returns true if some are new. With `are_spreading` the new ones were
    /// written a moment ago, so that nodes may not have read them.
    pub(in crate::operator::bundles) fn set_images(
        &mut self,
        images: &[Image],
        are_spreading: bool,
        now: Instant,
    ) -> bool {
        let mut wanted = BTreeSet::new();
        wanted.extend(images);
        self.images.retain(|image, _| wanted.contains(&**image));
        let mut has_new = false;
        for image in images {
            if !self.images.contains_key(image) {
                has_new = true;
                self.images.insert(Arc::new(image.clone()), are_spreading.then_some(now));
            }
        }
        for node in self.nodes.values_mut() {
            node.answers.retain(|image, _| wanted.contains(&**image));
        }
        has_new
    }

    /// Returns true if nodes may not have read all names yet.
    pub(in crate::operator::bundles) fn is_spreading(&self, now: Instant) -> bool {
        self.images.keys().any(|image| self.may_lack(image, now))
    }

    /// Chooses the nodes of the next round, of those that can be asked now.
    pub(in crate::operator::bundles) fn choose(
        &mut self,
        nodes: &[AskableNode],
        now: Instant,
    ) -> Vec<Question> {
        let mut present = BTreeSet::new();
        present.extend(nodes.iter().map(|node| node.node.as_str()));
        self.nodes.retain(|node, _| present.contains(node.as_str()));
        for node in self.nodes.values_mut() {
            node.answers.retain(|_, (at, _)| now.duration_since(*at) < ANSWER_LIFETIME);
        }
        if self.images.is_empty() {
            return Vec::new();
        }
        let mut due: Vec<(Urgency, Option<Instant>, &AskableNode)> = nodes
            .iter()
            .filter_map(|node| {
                let asked = self.nodes.get(&node.node).and_then(|answers| answers.asked);
                Some((self.urgency(&node.node, now)?, asked, node))
            })
            .collect();
        due.sort_by(|one, other| (one.0, one.1, &one.2.node).cmp(&(other.0, other.1, &other.2.node)));
        // A few failing nodes first, then the others, and then more failing ones if there is room.
        let first_failing = due.partition_point(|(urgency, ..)| *urgency < Urgency::Failing);
        let (others, failing) = due.split_at(first_failing);
        let reserved = failing.len().min(FAILING_NODES_PER_ROUND);
        let order = failing[..reserved].iter().chain(others).chain(&failing[reserved..]);
        let mut left = self.budget(now);
        let mut round = Vec::new();
        for (_, _, node) in order.take(NODES_PER_ROUND) {
            let images = self.urgent_images(&node.node, left, now);
            if images.is_empty() {
                break;
            }
            left -= images.len();
            round.push(Question { node: (*node).clone(), images });
        }
        for question in &round {
            self.nodes.entry(question.node.node.clone()).or_default().asked = Some(now);
        }
        let requests: usize = round.iter().map(|question| question.images.len()).sum();
        if requests > 0 {
            self.spent.push_back((now, requests));
        }
        round
    }

    /// Records the answers of a node; images without an answer are unknown as before. Returns true if any
    /// answer is news.
    pub(in crate::operator::bundles) fn record(
        &mut self,
        node: &str,
        answers: Vec<(Arc<Image>, bool)>,
        now: Instant,
    ) -> bool {
        let known = self.nodes.entry(node.to_owned()).or_default();
        let mut is_news = false;
        for (image, is_served) in answers {
            // The names may have changed since the question.
            if self.images.contains_key(&image) {
                let before = known.answers.insert(image, (now, is_served));
                is_news |= before.is_none_or(|(_, was_served)| was_served != is_served);
            }
        }
        is_news
    }

    /// Summarises the answers about some names.
    pub(in crate::operator::bundles) fn summary(&self, names: &[ParsedName], now: Instant) -> ProofSummary {
        let images = by_image(names);
        let mut summary = ProofSummary::default();
        let (mut served, mut refused) = (BTreeSet::new(), BTreeSet::new());
        for (node, known) in &self.nodes {
            let (mut answered, mut absent, mut late) = (0, Vec::<&str>::new(), 0);
            for (image, texts) in &images {
                let fresh =
                    known.answers.get(*image).filter(|(at, _)| now.duration_since(*at) < ANSWER_LIFETIME);
                let Some((_, is_served)) = fresh else { continue };
                answered += 1;
                if *is_served {
                    served.insert(*image);
                    continue;
                }
                refused.insert(*image);
                if self.may_lack(image, now) {
                    late += 1;
                } else {
                    absent.extend(texts);
                }
            }
            if answered == images.len() && answered > 0 {
                summary.asked += 1;
                summary.serving += usize::from(absent.is_empty() && late == 0);
            }
            absent.sort_unstable();
            match absent.first() {
                Some(first) => summary.absent.push(AbsentNames {
                    node: node.clone(),
                    first: (*first).to_owned(),
                    count: absent.len(),
                }),
                None => summary.spreading += usize::from(late > 0),
            }
        }
        summary.served_names = images
            .iter()
            .filter(|(image, _)| served.contains(*image) && !refused.contains(*image))
            .map(|(_, texts)| texts.len())
            .sum();
        summary
    }

    /// Returns true if a node may lack an image since it has not read its name yet.
    fn may_lack(&self, image: &Image, now: Instant) -> bool {
        let added = self.images.get(image).copied().flatten();
        added.is_some_and(|added| now.duration_since(added) < SPREADING_TIME)
    }

    /// Returns the urgency of asking a node; `None` if its answers are new enough.
    fn urgency(&self, node: &str, now: Instant) -> Option<Urgency> {
        let Some(known) = self.nodes.get(node).filter(|known| !known.answers.is_empty()) else {
            return Some(Urgency::Unknown);
        };
        if known.answers.values().any(|(_, is_served)| !is_served) {
            return Some(Urgency::Failing);
        }
        if known.answers.len() < self.images.len() {
            return Some(Urgency::Begun);
        }
        known.answers.values().any(|(at, _)| now.duration_since(*at) >= RENEWAL_AGE).then_some(Urgency::Old)
    }

    /// Returns at most `limit` images to ask a node for: those without an answer first, then those that it
    /// could not serve, then those with old answers.
    fn urgent_images(&self, node: &str, limit: usize, now: Instant) -> Vec<Arc<Image>> {
        let known = self.nodes.get(node);
        let mut ranked: Vec<(u8, Option<Instant>, &Arc<Image>)> = self
            .images
            .keys()
            .filter_map(|image| match known.and_then(|known| known.answers.get(image)) {
                None => Some((0, None, image)),
                Some((at, false)) => Some((1, Some(*at), image)),
                Some((at, true)) if now.duration_since(*at) >= RENEWAL_AGE => Some((2, Some(*at), image)),
                Some(_) => None,
            })
            .collect();
        ranked.sort();
        ranked.into_iter().take(limit).map(|(.., image)| image.clone()).collect()
    }

    /// Returns the number of requests that are left now: any period of this length has its limit, whenever it begins.
    fn budget(&mut self, now: Instant) -> usize {
        while self.spent.front().is_some_and(|(at, _)| now.duration_since(*at) >= BUDGET_PERIOD) {
            self.spent.pop_front();
        }
        let spent: usize = self.spent.iter().map(|(_, requests)| requests).sum();
        REQUESTS_PER_PERIOD.saturating_sub(spent)
    }
}
