//! Mistakes in a resource: the API server refuses them, and the status reports those that the schema cannot
//! find. They do not hold up other resources.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::support::stage::condition;
use super::support::{Stage, Story, When, wait};

const DEADLINE: Duration = Duration::from_mins(4);

pub fn story() -> Story {
    Story { name: "bad_resources", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    for (path, value, text) in mistakes() {
        let mut resource = stage.resource("mistake", 2);
        set_field(&mut resource, path, value.clone());
        check_refused(&stage, &resource, &format!("{path}: {value}"), text).await?;
    }
    let mut both = stage.resource("mistake", 2);
    both["spec"]["seed"] = json!({"executable": format!("sha256:{}", "0".repeat(64))});
    check_refused(&stage, &both, "image and seed", "exactly one of image and seed").await?;
    let mut neither = stage.resource("mistake", 2);
    neither["spec"].as_object_mut().context("an object")?.remove("image");
    check_refused(&stage, &neither, "neither image nor seed", "exactly one of image and seed").await?;
    let seed = json!({"executable": format!("sha256:{}", "0".repeat(64))});
    neither["spec"]["seed"] = seed.clone();
    check_refused(&stage, &neither, "seed without digest", "digest must be set beside seed").await?;

    // A mistake that the schema cannot find.
    let mut incomplete = stage.resource("unborn", 2);
    let spec = incomplete["spec"].as_object_mut().context("an object")?;
    spec.remove("image");
    spec.insert("seed".into(), seed);
    spec.insert("digest".into(), json!(stage.world.first.digest));
    spec.insert("basePort".into(), json!(stage.base_port + 10));
    stage.apply(&incomplete).await?;
    let what = "a missing seed is reported as Degraded/SeedIncomplete";
    let resources = stage.resources();
    let incomplete = wait::until(&resources, "unborn", DEADLINE, what, |one| {
        condition(one, "Degraded").is_some_and(|it| it.status == "True" && it.reason == "SeedIncomplete")
    });
    let message = condition(&incomplete.await?, "Degraded").map(|it| it.message.clone()).unwrap_or_default();
    stage.log(format_args!("SeedIncomplete says: {message}"));
    ensure!(message.contains("quinistry up"), "the message does not say what to do: {message}");

    // Other resources are raised, and an immutable field cannot be changed.
    stage.apply(&stage.resource("good", 1)).await?;
    stage.until_ready("good", DEADLINE).await?;
    let mut moved = stage.resource("good", 1);
    moved["spec"]["basePort"] = json!(stage.base_port + 1);
    check_client_error(stage.apply(&moved).await.map(drop), "another basePort", "basePort cannot be changed")
}

/// Mistakes as path, value, and text that the answer must contain: the field or the rule.
fn mistakes() -> Vec<(&'static str, Value, &'static str)> {
    let digest = |length: usize| json!(format!("sha256:{}", "a".repeat(length)));
    vec![
        ("/spec/generations", json!(0), "greater than or equal to 1"),
        ("/spec/generations", json!(17), "less than or equal to 16"),
        ("/spec/generations", json!("three"), "spec.generations"),
        ("/spec/generations", json!(1.5), "spec.generations"),
        ("/spec/basePort", json!(1025), "greater than or equal to 1026"),
        ("/spec/basePort", json!(65536), "less than or equal to 65535"),
        ("/spec/basePort", json!(65535), "basePort + generations - 1 must be at most 65535"),
        ("/spec/basePort", json!("5000"), "spec.basePort"),
        ("/spec/image", json!("quinistry latest"), "spec.image"),
        ("/spec/image", json!(""), "spec.image"),
        ("/spec/image", json!(7), "spec.image"),
        ("/spec/image", json!("x".repeat(513)), "spec.image"),
        ("/spec/digest", digest(63), "spec.digest"),
        ("/spec/digest", digest(65), "spec.digest"),
        ("/spec/digest", json!("a".repeat(64)), "spec.digest"),
        ("/spec/digest", json!(format!("sha256:{}", "A".repeat(64))), "spec.digest"),
        ("/spec/genrations", json!(3), "genrations"),
        ("/spec/network", json!({"mode": "HostPort", "hostIp": "127.0.0.1"}), "hostIp"),
        ("/spec/network", json!({"mode": "Host"}), "supported values"),
        ("/spec/network", json!({"hostIP": "localhost"}), "spec.network.hostIP"),
        ("/spec/imagePullPolicy", json!("Sometimes"), "supported values"),
        ("/spec/imagePullSecrets", json!([{"name": ""}]), "spec.imagePullSecrets[0].name"),
        ("/spec/imagePullSecrets", json!([{"name": "a"}, {"name": "a"}]), "uplicate"),
        ("/spec/nodeSelector", json!({"zone": 1}), "nodeSelector"),
        ("/spec/nodeSelector", (0..33).map(|n| (format!("k{n}"), json!("v"))).collect(), "spec.nodeSelector"),
        ("/spec/tolerations", json!(vec![json!({"operator": "Exists"}); 33]), "spec.tolerations"),
        ("/spec/priorityClassName", json!("x".repeat(254)), "spec.priorityClassName"),
        ("/spec/rollout", json!({"maxUnavailable": 0}), "maxUnavailable must be a number from 1"),
        ("/spec/rollout", json!({"maxUnavailable": "0%"}), "maxUnavailable must be a number from 1"),
        ("/spec/rollout", json!({"maxUnavailable": "101%"}), "maxUnavailable must be a number from 1"),
        ("/spec/rollout", json!({"maxUnavailable": "many"}), "maxUnavailable must be a number from 1"),
        ("/spec/rollout", json!({"progressDeadlineSeconds": 9}), "greater than or equal to 10"),
        ("/spec/rollout", json!({"progressDeadlineSeconds": 86401}), "less than or equal to 86400"),
        ("/spec/suspend", json!("yes"), "spec.suspend"),
        ("/metadata/name", json!("n".repeat(58)), "the name must be at most 57 characters long"),
    ]
}

/// Sets a field by its path, which consists of two names.
fn set_field(resource: &mut Value, path: &str, value: Value) {
    let (section, field) = path[1..].split_once('/').expect("a path of two words");
    resource[section][field] = value;
}

/// Checks that the API server refuses to create a resource, with this text.
async fn check_refused(stage: &Stage, resource: &Value, what: &str, text: &str) -> Result<()> {
    check_client_error(stage.create(resource).await.map(drop), what, text)
}

/// Checks that an answer is a client error with this text.
fn check_client_error(answer: kube::Result<()>, what: &str, text: &str) -> Result<()> {
    match answer {
        Ok(()) => bail!("the API server accepts {what}"),
        Err(kube::Error::Api(status)) => {
            let message = &status.message;
            ensure!((400..500).contains(&status.code), "{what}: {} {message}", status.code);
            let found = message.to_lowercase().contains(&text.to_lowercase());
            ensure!(found, "{what}: the message does not say {text:?}: {message}");
            Ok(())
        }
        Err(error) => Err(error).with_context(|| what.to_owned()),
    }
}
