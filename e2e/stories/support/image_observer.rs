//! Observer of application images: asks the localhost of nodes for the root of each image about twice a second, for as
//! long as a story lasts, and records each denial and each wrong answer with its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use quinistry::oci::Digest;

use super::application::Carried;
use super::availability::{Answer, Question, SilentWindow, faults, longest_silence};
use super::world::World;
use super::{Node, Stage};

/// Time between two rounds of questions to a node.
const INTERVAL: Duration = Duration::from_millis(500);

/// Time limit of an answer: container runtimes wait longer for a manifest.
const ANSWER_LIMIT: &str = "10";

/// Line between the answers of a round, which no manifest contains.
const SEPARATOR: &str = "--answer-of-a-node--";

/// Number of faults that an error lists.
const LISTED_FAULTS: usize = 12;

/// The observer, which stops when this value is dropped.
pub struct ImageObserver {
    record: Arc<Record>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

struct Record {
    began: Instant,
    port: i32,
    nodes: Vec<String>,
    /// Repository and digest of each root.
    roots: Mutex<BTreeSet<(String, String)>>,
    /// Pairs of node and image that must have been answered at least once.
    expected: Mutex<BTreeSet<(String, String)>>,
    questions: Mutex<Vec<Question>>,
    windows: Mutex<Vec<SilentWindow>>,
}

/// Permission for nodes to be silent, until this value is dropped.
pub struct Silence {
    record: Arc<Record>,
    /// Positions of the windows.
    windows: Vec<usize>,
}

// === impl ImageObserver ===

impl ImageObserver {
    /// Starts to ask all nodes on a port.
    pub fn start(stage: &Stage, port: i32) -> Self {
        let all: Vec<&str> = stage.world.nodes.iter().map(|node| node.name()).collect();
        Self::of_nodes(stage, port, &all)
    }

    /// Starts to ask some nodes on a port.
    pub fn of_nodes(stage: &Stage, port: i32, nodes: &[&str]) -> Self {
        let record = Arc::new(Record {
            began: Instant::now(),
            port,
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            roots: Mutex::default(),
            expected: Mutex::default(),
            questions: Mutex::default(),
            windows: Mutex::default(),
        });
        let positions = stage.world.nodes.iter().enumerate().filter(|(_, node)| nodes.contains(&node.name()));
        let tasks = positions.map(|(position, _)| {
            tokio::spawn(ask_again_and_again(Arc::clone(&record), Arc::clone(&stage.world), position))
        });
        Self { tasks: tasks.collect(), record }
    }

    /// Adds the images of a version, which all nodes answer already.
    pub fn add(&self, carried: &Carried) {
        let roots = carried.roots();
        let expected = self.record.nodes.iter().flat_map(|node| {
            roots.iter().map(move |(repository, digest)| (node.clone(), name(repository, digest)))
        });
        self.record.expected.lock().expect("nothing panics with it").extend(expected);
        self.record.roots.lock().expect("nothing panics with it").extend(roots);
    }

    /// Ends the questions for the images of a version, which nodes need not answer any more.
    pub fn remove(&self, carried: &Carried) {
        let gone: BTreeSet<_> = carried.roots().into_iter().collect();
        self.record.roots.lock().expect("nothing panics with it").retain(|root| !gone.contains(root));
    }

    /// Allows nodes to be silent until the returned value is dropped. Their answers must still be right.
    #[must_use]
    pub fn allow_silence(&self, nodes: &[&str]) -> Silence {
        let from = self.record.began.elapsed();
        let mut windows = self.record.windows.lock().expect("nothing panics with it");
        let first = windows.len();
        windows.extend(nodes.iter().map(|&node| SilentWindow { node: node.to_owned(), from, to: None }));
        Silence { record: Arc::clone(&self.record), windows: (first..windows.len()).collect() }
    }

    /// Allows all nodes to be silent.
    #[must_use]
    pub fn allow_silence_of_all(&self) -> Silence {
        self.allow_silence(&self.record.nodes.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Ends the questions, prints their number and the longest silence, and checks the answers.
    pub async fn check(mut self, stage: &Stage) -> Result<()> {
        for task in &self.tasks {
            task.abort();
        }
        join_all(self.tasks.drain(..)).await;
        let questions = std::mem::take(&mut *self.record.questions.lock().expect("nothing panics with it"));
        let windows = self.record.windows.lock().expect("nothing panics with it").clone();
        let expected = self.record.expected.lock().expect("nothing panics with it").clone();
        let silences: BTreeMap<_, _> =
            self.record.nodes.iter().map(|node| (node, longest_silence(&questions, node))).collect();
        let silences: Vec<_> =
            silences.iter().map(|(node, time)| format!("{node} {:.1} s", time.as_secs_f32())).collect();
        stage.log(format_args!(
            "{} questions for images; longest time between two answers: {}",
            questions.len(),
            silences.join(", ")
        ));
        let faults = faults(&questions, &windows, &expected);
        let listed = faults.iter().take(LISTED_FAULTS).map(String::as_str).collect::<Vec<_>>().join("\n");
        let count = faults.len();
        ensure!(faults.is_empty(), "nodes did not serve the application {count} times, first:\n{listed}");
        Ok(())
    }
}

impl Drop for ImageObserver {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

// === impl Silence ===

impl Drop for Silence {
    fn drop(&mut self) {
        let to = Some(self.record.began.elapsed());
        let mut windows = self.record.windows.lock().expect("nothing panics with it");
        for &position in &self.windows {
            windows[position].to = to;
        }
    }
}

async fn ask_again_and_again(record: Arc<Record>, world: Arc<World>, position: usize) {
    let node = &*world.nodes[position];
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let roots = record.roots.lock().expect("nothing panics with it").clone();
        if roots.is_empty() {
            continue;
        }
        let asked = record.began.elapsed();
        let answers = ask(node, record.port, &roots).await;
        let answered = record.began.elapsed();
        let questions = roots.iter().zip(answers).map(|((repository, digest), answer)| Question {
            node: node.name().to_owned(),
            image: name(repository, digest),
            asked,
            answered,
            answer,
        });
        record.questions.lock().expect("nothing panics with it").extend(questions);
    }
}

/// Asks a node for all roots in one command, and returns an answer for each.
async fn ask(node: &dyn Node, port: i32, roots: &BTreeSet<(String, String)>) -> Vec<Answer> {
    let write = format!("\n{SEPARATOR} %{{http_code}} %{{errormsg}}\n{SEPARATOR}\n");
    let options = ["curl", "-s", "--noproxy", "*", "-m", ANSWER_LIMIT, "-w", &write];
    let urls: Vec<String> = roots
        .iter()
        .map(|(repository, digest)| format!("http://localhost:{port}/v2/{repository}/manifests/{digest}"))
        .collect();
    let words: Vec<&str> = options.into_iter().chain(urls.iter().map(String::as_str)).collect();
    let output = node.command(&words).stdin(std::process::Stdio::null()).output().await;
    let output = match output.context("failed to start curl") {
        Ok(output) => output.stdout,
        Err(error) => return vec![Answer::Denied(format!("{error:#}")); roots.len()],
    };
    let separator = format!("\n{SEPARATOR}");
    let mut parts = split(&output, separator.as_bytes()).into_iter();
    let mut answer = |digest: &str| {
        let (Some(body), Some(status)) = (parts.next(), parts.next()) else {
            return Answer::Denied("no answer of curl".into());
        };
        // The line's end of the former answer's separator.
        let body = body.strip_prefix(b"\n").unwrap_or(body);
        let status = String::from_utf8_lossy(status).trim().to_owned();
        let found = Digest::sha256(body).to_string();
        // A transfer that broke has a message behind its status.
        if status != "200" {
            return Answer::Denied(format!("{status} {}", String::from_utf8_lossy(body).trim()));
        }
        if found == digest { Answer::Right } else { Answer::Wrong(format!("bytes of {found}")) }
    };
    roots.iter().map(|(_, digest)| answer(digest)).collect()
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(place) = bytes.windows(separator.len()).position(|part| part == separator) {
        parts.push(&bytes[..place]);
        bytes = &bytes[place + separator.len()..];
    }
    parts
}

fn name(repository: &str, digest: &str) -> String {
    format!("{repository}@{digest}")
}
