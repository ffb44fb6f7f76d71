//! Runs stories: first those that need the cluster alone, then those that run side by side, then the
//! disturbing ones. Prints the result and the duration of each.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures_util::future::{BoxFuture, join_all};

use super::operator::SharedOperator;
use super::world::World;
use super::{Stage, diagnosis};

/// Time limit of a story. It exceeds the five minutes (`outage::API_RECOVERY_DEADLINE`) after which the
/// DaemonSet controller no longer waits for an event that it lost with the API server.
const STORY_LIMIT: Duration = Duration::from_mins(8);

/// Time limit of a story that runs in full (`QUINISTRY_E2E_SOAK`).
const SOAK_STORY_LIMIT: Duration = Duration::from_mins(30);

/// Order of a story among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Alone, before the others, because the story measures.
    First,
    /// Beside others, in a namespace and on ports of its own.
    Together,
    /// Alone, after the others, because the story disturbs them.
    Last,
}

/// A named test on the cluster.
#[derive(Clone, Copy)]
pub struct Story {
    /// Name of the story's file.
    pub name: &'static str,
    pub when: When,
    /// True if the story needs the shared operator.
    pub operator: bool,
    pub play: fn(Arc<Stage>) -> BoxFuture<'static, Result<()>>,
}

/// Result of a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoryOutcome {
    Passed,
    /// Failed, and passed when it was played again.
    PassedAgain,
    Skipped,
    Failed,
}

/// Most stories that are played again: more failures have one cause.
const MOST_AGAIN: usize = 2;

/// Parses the arguments, runs the stories, and prints the results.
pub fn main(stories: &[Story]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "--list") {
        for story in stories {
            println!("{}", story.name);
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|word| !stories.iter().any(|story| story.name == **word)) {
        eprintln!("story {unknown} not found; see --list");
        return ExitCode::from(2);
    }
    let selected: Vec<(usize, Story)> = stories
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, story)| wanted.is_empty() || wanted.iter().any(|word| *word == story.name))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(play_all(&selected)) {
        Ok(outcomes) => {
            println!("\n{}", summary(&outcomes));
            if outcomes.iter().any(|(_, outcome)| *outcome == StoryOutcome::Failed) {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            println!("\n{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Formats the closing line: the number of stories with each result, and the names of those that did not
/// pass.
fn summary(outcomes: &[(&str, StoryOutcome)]) -> String {
    let named = |wanted: StoryOutcome| -> Vec<&str> {
        outcomes.iter().filter(|(_, outcome)| *outcome == wanted).map(|(name, _)| *name).collect()
    };
    let passed = named(StoryOutcome::Passed).len() + named(StoryOutcome::PassedAgain).len();
    let mut parts = vec![format!("{passed} of {} stories passed", outcomes.len())];
    let others = [
        ("only when played again", StoryOutcome::PassedAgain),
        ("skipped", StoryOutcome::Skipped),
        ("failed", StoryOutcome::Failed),
    ];
    for (word, outcome) in others {
        let stories = named(outcome);
        if !stories.is_empty() {
            parts.push(format!("{} {word}: {}", stories.len(), stories.join(" ")));
        }
    }
    parts.join("; ")
}

/// Runs the stories, and returns the result of each.
async fn play_all(selected: &[(usize, Story)]) -> Result<Vec<(&'static str, StoryOutcome)>> {
    let Some(world) = World::from_environment().await? else {
        println!("skipped: no cluster; e2e/run starts one");
        assert!(std::env::var_os("QUINISTRY_TESTS_STRICT").is_none(), "missing: a cluster");
        return Ok(selected.iter().map(|(_, story)| (story.name, StoryOutcome::Skipped)).collect());
    };
    let operator = if selected.iter().any(|(_, story)| story.operator) {
        let began = Instant::now();
        let operator = match SharedOperator::start(&world).await {
            Ok(operator) => operator,
            Err(error) => {
                println!("{}", diagnosis::of_operator(&world, None).await);
                return Err(error.context("failed to start the operator"));
            }
        };
        println!("operator ready in {:.1} s", began.elapsed().as_secs_f32());
        Some(Arc::new(operator))
    } else {
        None
    };
    let play = |(number, story): (usize, Story)| play(&world, operator.as_ref(), number, story);
    let mut again = if std::env::var_os("QUINISTRY_E2E_AGAIN").is_some() { MOST_AGAIN } else { 0 };
    let mut outcomes = Vec::new();
    for when in [When::First, When::Together, When::Last] {
        let stories: Vec<_> = selected.iter().copied().filter(|(_, story)| story.when == when).collect();
        // A story that failed is played again before later ones take away what it needs.
        let groups: Vec<_> =
            if when == When::Together { vec![&stories[..]] } else { stories.chunks(1).collect() };
        for group in groups {
            let mut played = join_all(group.iter().copied().map(play)).await;
            let failed = played.iter().filter(|(_, outcome)| *outcome == StoryOutcome::Failed).count();
            let Some(left) = again.checked_sub(failed) else {
                outcomes.extend(played);
                continue;
            };
            again = left;
            for ((name, outcome), story) in played.iter_mut().zip(group) {
                if *outcome == StoryOutcome::Failed {
                    println!("once more, alone: {name}");
                    if play(*story).await.1 == StoryOutcome::Passed {
                        *outcome = StoryOutcome::PassedAgain;
                    }
                }
            }
            outcomes.extend(played);
        }
    }
    Ok(outcomes)
}

/// Runs one story on a stage of its own, and returns its result.
async fn play(
    world: &Arc<World>,
    operator: Option<&Arc<SharedOperator>>,
    number: usize,
    story: Story,
) -> (&'static str, StoryOutcome) {
    let began = Instant::now();
    let stage = match Stage::new(world, operator.cloned(), story.name, number).await {
        Ok(stage) => Arc::new(stage),
        Err(error) => {
            println!("FAILED {}: failed to prepare: {error:#}", story.name);
            return (story.name, StoryOutcome::Failed);
        }
    };
    // A task, so that a panic is a failure like any other.
    let limit = if world.soak { SOAK_STORY_LIMIT } else { STORY_LIMIT };
    let task = tokio::spawn(tokio::time::timeout(limit, (story.play)(Arc::clone(&stage))));
    let result = match task.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(anyhow!("not finished within {} s", limit.as_secs())),
        Err(panic) => Err(panic.into()),
    };
    let diagnosis = match &result {
        Ok(()) => String::new(),
        Err(_) => stage.diagnosis().await,
    };
    let back = match operator {
        Some(operator) => {
            operator.restart_shared(world).await.context("failed to restart the shared operator")
        }
        None => Ok(()),
    };
    let result = result.and(back);
    let skipped = stage.is_skipped();
    let result = match result {
        Ok(()) => stage.clear().await.context("failed to clean up"),
        Err(error) if std::env::var_os("QUINISTRY_E2E_KEEP").is_some() => Err(error),
        Err(error) => {
            let _ = stage.clear().await;
            Err(error)
        }
    };
    match result {
        Ok(()) if skipped => println!("skipped {}", story.name),
        Ok(()) => println!("ok {} ({:.1} s)", story.name, began.elapsed().as_secs_f32()),
        Err(ref error) => {
            println!(
                "FAILED {} ({:.1} s): {error:#}\n{diagnosis}",
                story.name,
                began.elapsed().as_secs_f32()
            );
        }
    }
    let outcome = match result {
        Ok(()) if skipped => StoryOutcome::Skipped,
        Ok(()) => StoryOutcome::Passed,
        Err(_) => StoryOutcome::Failed,
    };
    (story.name, outcome)
}
