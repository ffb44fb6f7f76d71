//! Policies as they are written, applied by the planner of the store.

mod failures;
mod findings;
mod mappings;
mod page;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, RepositoryName};
use quinistry_store::retention::{LooseFacts, Policies, TagFacts, Verdict, plan};

use super::compile;
use crate::config::{Loaded, ReadFile, RetentionConfig, SecretFile, Source, load};

/// Folder without files.
struct NoFiles;

impl ReadFile for NoFiles {
    fn read(&self, _: &Path, _: usize) -> io::Result<SecretFile> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Reads the smallest configuration with more text.
fn load_with(more: &str) -> Loaded {
    let text = format!("version: 0.1\nstorage: inmemory\n{more}");
    load(Some(Source { name: "c.yml", bytes: text.as_bytes() }), [], &NoFiles)
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

fn config(more: &str) -> RetentionConfig {
    let loaded = load_with(more);
    let Some(config) = &loaded.config else { panic!("{more}\n{}", lines(&loaded).join("\n")) };
    config.retention.clone().expect("retention is configured")
}

fn policies(more: &str) -> Policies {
    compile(&config(more)).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 1000)
}

fn ago(age: Duration) -> SystemTime {
    now() - age
}

const fn days(days: u64) -> Duration {
    Duration::from_hours(24 * days)
}

/// Tag of an example.
#[derive(Clone, Debug)]
struct ExampleTag {
    repository: String,
    tag: String,
    /// Name of the image that the tag refers to.
    image: String,
    pushed: Duration,
    pulled: Option<Duration>,
}

fn digest(image: &str) -> Digest {
    Digest::sha256(image.as_bytes())
}

/// Judges the tags of an example, each repository by itself. Returns the verdicts in the order of the
/// example.
fn judge(policies: &Policies, recorded: Option<Duration>, tags: &[ExampleTag]) -> Vec<Verdict> {
    let mut repositories: BTreeMap<&str, Vec<TagFacts>> = BTreeMap::new();
    for example in tags {
        repositories.entry(&example.repository).or_default().push(TagFacts {
            tag: example.tag.parse().unwrap(),
            digest: digest(&example.image),
            pushed: ago(example.pushed),
            pulled: example.pulled.map(ago),
            is_protected: false,
        });
    }
    let mut verdicts = BTreeMap::new();
    for (repository, facts) in repositories {
        let name: RepositoryName = repository.parse().unwrap();
        for judged in plan(policies, &name, facts, recorded.map(ago), now()).tags {
            verdicts.insert((repository, judged.facts.tag.to_string()), judged.verdict);
        }
    }
    tags.iter().map(|tag| verdicts[&(tag.repository.as_str(), tag.tag.clone())]).collect()
}

/// Returns true for each manifest that stays without a tag.
fn judge_untagged(policies: &Policies, recorded: Option<Duration>, manifests: &[ExampleTag]) -> Vec<bool> {
    let kept = |example: &ExampleTag| {
        let name = example.repository.parse().unwrap();
        let of_repository = manifests.iter().filter(|other| other.repository == example.repository);
        let loose: Vec<_> = of_repository
            .map(|example| LooseFacts {
                digest: digest(&example.image),
                pushed: ago(example.pushed),
                pulled: example.pulled.map(ago),
            })
            .collect();
        let kept = policies.kept_untagged(&name, &loose, recorded.map(ago), now());
        kept.contains(&digest(&example.image))
    };
    manifests.iter().map(kept).collect()
}
