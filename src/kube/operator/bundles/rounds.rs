//! Rounds of questions to nodes, each minute, and more often while nodes read changed names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::ask;
use super::plan::Registry;
use super::proof::{AskableNode, Question};
use crate::api::locks::lock;
use crate::operator::Operator;

/// Interval of the rounds.
const ROUND_INTERVAL: Duration = Duration::from_mins(1);

/// Interval of the rounds while nodes read changed names.
const SPREADING_INTERVAL: Duration = Duration::from_secs(15);

/// Asks nodes in rounds until dropped. (Client required.)
pub(super) async fn run(operator: Arc<Operator>) {
    loop {
        let this = &operator.bundles;
        let mut interval = ROUND_INTERVAL;
        if operator.leadership.holds() && operator.is_synced() {
            let targets: Vec<Registry> = lock(&this.targets).values().cloned().collect();
            for registry in &targets {
                round(&operator, registry).await;
                if lock(&this.proofs).of(&registry.identity.uid).is_spreading(Instant::now()) {
                    interval = SPREADING_INTERVAL;
                }
            }
        }
        // New images are asked for at once.
        let _ = tokio::time::timeout(interval, this.asked_for.notified()).await;
    }
}

async fn round(operator: &Arc<Operator>, registry: &Registry) {
    let this = &operator.bundles;
    if registry.is_unreachable {
        return;
    }
    let uid = &registry.identity.uid;
    let pods = operator.pods.select(|pod| pod.claims(&registry.identity));
    let nodes: Vec<AskableNode> = ask::askable_nodes(&pods, &registry.identity);
    let questions: Vec<Question> = lock(&this.proofs).of(uid).choose(&nodes, Instant::now());
    let answers = questions.iter().cloned().map(|question| {
        let asker = this.asker.clone();
        async move { asker.ask(&question).await }
    });
    let answers = join_all(answers).await;
    let mut is_news = false;
    let mut proofs = lock(&this.proofs);
    for (question, answers) in questions.iter().zip(answers) {
        is_news |= proofs.of(uid).record(&question.node.node, answers, Instant::now());
    }
    drop(proofs);
    if is_news {
        this.wake();
    }
}
