//! `quinistry up` by a newer build while a client on every node pulls from every generation: generation 0 is
//! replaced, then the operator, then the generations, one after another, and only pulls from a generation
//! that is being replaced fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;

use super::support::chain_rule::{Event, What};
use super::support::observer::Observer;
use super::support::pods::of_generation;
use super::support::{Node, Stage, Story, When, seed, up, wait};

const DEADLINE: Duration = Duration::from_mins(4);
const GENERATIONS: i32 = 3;
/// Pause of a client between pulls.
const PULL_PAUSE: Duration = Duration::from_millis(500);
/// Greatest delay of the observer's events.
const OBSERVER_DELAY: Duration = Duration::from_millis(500);

pub fn story() -> Story {
    Story { name: "seed_upgrade", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    up::without_shared_operator(&stage, Box::pin(upgrade(&stage))).await
}

async fn upgrade(stage: &Stage) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    up::raise(stage, &first.path).await?;
    seed::check_parts(stage, up::NAME, first).await?;

    let observer = Observer::start(stage).await?;
    let pulls = Mutex::default();
    let clients = stage.world.nodes.iter().flat_map(|node| (0..=GENERATIONS).map(move |one| (&**node, one)));
    let clients = clients.map(|(node, generation)| client(stage, node, generation, &observer, &pulls));
    let took = tokio::select! {
        took = up::raise(stage, &second.path) => took?,
        _ = join_all(clients) => bail!("a client has ended"),
    };
    stage.log(format_args!("the upgrade took {:.1} s", took.as_secs_f32()));

    seed::check_all_nodes(stage, GENERATIONS, &second.digest).await?;
    wait::eventually(DEADLINE, "the seed parts are those of the newer build", || {
        seed::check_parts(stage, up::NAME, second)
    })
    .await?;
    let image = second.at(stage.base_port - 1);
    let runs = |pod: &Pod| {
        pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_ref()) == Some(&image)
    };
    let operator = up::operator(stage, "the newer operator is Ready", runs).await?;
    check_order(stage, &operator).await?;

    observer.check_chain_rule(stage).await?;
    let pulls = pulls.into_inner().expect("nothing panics with it");
    check_pulls(stage, &observer.events(), &pulls)?;
    up::down(stage).await.map(drop)
}

/// A client's pull from a generation on a node.
#[derive(Debug)]
struct RecordedPull {
    node: String,
    generation: i32,
    from: Duration,
    to: Duration,
    error: Option<String>,
}

/// Pulls in a loop: the tag's manifest, and the layer that it names.
async fn client(
    stage: &Stage,
    node: &dyn Node,
    generation: i32,
    observer: &Observer,
    pulls: &Mutex<Vec<RecordedPull>>,
) {
    let base = format!("http://localhost:{}/v2/quinistry", stage.base_port + generation - 1);
    let script = format!(
        "m=$(curl -sSf -m 5 {base}/manifests/latest) || exit 1
        l=$(printf %s \"$m\" | grep -o 'sha256:[0-9a-f]*' | tail -1)
        got=$(curl -sSf -m 20 {base}/blobs/$l | sha256sum) || exit 2
        [ \"sha256:${{got%% *}}\" = \"$l\" ] || {{ echo \"$l came as $got\" >&2; exit 3; }}"
    );
    let mut ticks = tokio::time::interval(PULL_PAUSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let from = observer.now();
        let error = node.run(&["sh", "-c", &script]).await.err().map(|error| format!("{error:#}"));
        let pull = RecordedPull { node: node.name().into(), generation, from, to: observer.now(), error };
        pulls.lock().expect("nothing panics with it").push(pull);
    }
}

/// Spans of time in which a generation had no Ready pod on a node.
type Gaps = BTreeMap<(String, i32), Vec<(Duration, Duration)>>;

fn check_pulls(stage: &Stage, events: &[Event], pulls: &[RecordedPull]) -> Result<()> {
    let gaps = find_gaps(events)?;
    let mut longest = BTreeMap::new();
    for ((_, generation), all) in &gaps {
        let gap = all.iter().map(|(from, to)| to.saturating_sub(*from)).max().unwrap_or_default();
        let longest: &mut Duration = longest.entry(*generation).or_default();
        *longest = (*longest).max(gap);
    }
    let failed: Vec<&RecordedPull> = pulls.iter().filter(|pull| pull.error.is_some()).collect();
    let unexplained = failed.iter().filter(|pull| {
        let gaps = gaps.get(&(pull.node.clone(), pull.generation)).into_iter().flatten();
        !gaps
            .into_iter()
            .any(|(from, to)| *from <= pull.to + OBSERVER_DELAY && pull.from <= *to + OBSERVER_DELAY)
    });
    let unexplained: Vec<_> = unexplained.collect();
    stage.log(format_args!(
        "{} pulls, {} of them failed, all from pods that were being replaced; longest gaps by generation: {longest:.1?}",
        pulls.len(),
        failed.len()
    ));
    ensure!(unexplained.is_empty(), "pulls failed from Ready pods: {unexplained:#?}\n{gaps:#?}");
    let tried: BTreeSet<_> = pulls.iter().map(|pull| (&pull.node, pull.generation)).collect();
    ensure!(tried.len() == stage.world.nodes.len() * 4, "some clients never pulled: {tried:?}");
    Ok(())
}

/// Computes the gaps from the events. Returns an error if two gaps of one node overlap.
fn find_gaps(events: &[Event]) -> Result<Gaps> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.version);
    let mut pods: BTreeMap<&str, (&str, i32, bool)> = BTreeMap::new();
    let mut open: BTreeMap<(String, i32), Duration> = BTreeMap::new();
    let mut seen: BTreeSet<(String, i32)> = BTreeSet::new();
    let mut gaps = Gaps::new();
    for event in events {
        match &event.what {
            What::Pod(pod) => {
                pods.insert(&pod.uid, (&pod.node, pod.key.1, pod.ready && !pod.deleting));
            }
            What::PodGone(uid) => drop(pods.remove(uid.as_str())),
            _ => continue,
        }
        let there: BTreeSet<(String, i32)> =
            pods.values().filter(|pod| pod.2).map(|pod| (pod.0.to_owned(), pod.1)).collect();
        seen.extend(there.iter().cloned());
        for place in &seen {
            if there.contains(place) {
                if let Some(from) = open.remove(place) {
                    gaps.entry(place.clone()).or_default().push((from, event.at));
                }
            } else {
                open.entry(place.clone()).or_insert(event.at);
            }
        }
        for (node, generation) in open.keys() {
            let two = open.keys().find(|other| other.0 == *node && other.1 != *generation);
            ensure!(
                two.is_none(),
                "generations {generation} and {two:?} of {node} were replaced at the same time: {event:?}"
            );
        }
    }
    ensure!(open.is_empty(), "not Ready at the end: {open:?}");
    Ok(gaps)
}

/// Checks that generation 0 is replaced before the operator, and the operator before the generations.
async fn check_order(stage: &Stage, operator: &Pod) -> Result<()> {
    let mut before: Option<Timestamp> = None;
    for generation in 0..=GENERATIONS {
        let pods = stage.pods().list(&of_generation(generation)).await?.items;
        let first = pods.iter().filter_map(created_at).min().context("there are pods")?;
        let last = pods.iter().filter_map(ready_at).max().context("there are Ready pods")?;
        stage.log(format_args!(
            "generation {generation}: the first created at {first}, the last Ready at {last}"
        ));
        ensure!(before.is_none_or(|before| before <= first), "generation {generation} was too early");
        before = Some(last);
        if generation == 0 {
            let (at, good) =
                (created_at(operator).context("the pod has a creation time")?, ready_at(operator));
            stage.log(format_args!("operator: created at {at}, Ready at {good:?}"));
            ensure!(last <= at, "the operator was replaced too early");
            before = Some(at);
        }
    }
    let old = up::operators(stage).list(&ListParams::default()).await?.items;
    ensure!(old.len() == 1, "there are {} operators", old.len());
    Ok(())
}

fn created_at(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

fn ready_at(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|one| one.type_ == "Ready" && one.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}
