//! Events of what retention and collection delete, from a store of the registry to a receiver.

use std::num::NonZeroU32;
use std::time::Duration;

use quinistry_oci::Digest;
use quinistry_store::retention::{Criteria, Percentage};
use quinistry_store::{Cycle, GcOptions, Store};
use serde_json::{Value, json};

use super::requests::{Registry, manifest};
use crate::config::{KeepTagsConfig, RetentionConfig, RetentionPolicyConfig};
use crate::retention::Retention;

/// Returns retention that keeps the tags beginning with `kept`, and no manifest without a tag.
fn retention() -> Retention {
    let kept = KeepTagsConfig { patterns: vec!["kept.*".into()], criteria: Criteria::default() };
    let policy = RetentionPolicyConfig {
        repositories: vec!["**".into()],
        keep_tags: vec![kept],
        untagged: Some(Criteria { pushed_within: Some(Duration::ZERO), ..Criteria::default() }),
        keeps_referrers: false,
    };
    let config = RetentionConfig {
        dry_run: false,
        max_delete: Percentage::ALL,
        ignored_pullers: Vec::new(),
        policies: vec![policy],
    };
    Retention::new(&config).unwrap()
}

/// Applies retention, and then runs one cycle of collection, as the task of a registry does.
fn run(store: &Store, retention: &Retention) {
    let lead = store.lead().expect("the storage is not shared");
    retention.run(store, &lead).unwrap();
    let rate = NonZeroU32::MAX;
    let options = GcOptions { grace: Duration::ZERO, min_age: Duration::ZERO, rate, ..GcOptions::default() };
    let cycle = store.collect_online(&options, &retention.rules(store), &lead).unwrap();
    assert!(matches!(cycle, Cycle::Done(_)), "{cycle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_and_collection_delete_reaches_the_receiver_with_its_actor() {
    let registry = Registry::start(false);
    let config = registry.push_blob("a/b", b"{}").await;
    let bytes = manifest(&config);
    let digest = Digest::sha256(&bytes);
    for tag in ["v1", "v2"] {
        assert_eq!(registry.status("PUT", &format!("/v2/a/b/manifests/{tag}"), &bytes).await, 201);
    }
    let store = registry.store.clone();
    let collect = move || {
        let retention = retention();
        // The first run after a change of the policies is dry. Then one cycle condemns, and the next removes.
        for _ in 0..3 {
            run(&store, &retention);
        }
    };
    tokio::task::spawn_blocking(collect).await.unwrap();
    let events = registry.receiver.events(7).await;
    let found: Vec<_> = events[3..]
        .iter()
        .map(|event| {
            let target = &event["target"];
            json!([
                event["action"],
                event["actor"]["name"],
                target["repository"],
                target["tag"],
                target["digest"]
            ])
        })
        .collect();
    let (retention, collection) = ("quinistry:retention", "quinistry:collection");
    assert_eq!(found[..2], ["v1", "v2"].map(|tag| json!(["delete", retention, "a/b", tag, ""])));
    let removed = |digest: &Digest| json!(["delete", collection, "a/b", Value::Null, digest]);
    for digest in [&digest, &config] {
        assert!(found[2..].contains(&removed(digest)), "{digest}: {found:?}");
    }
    assert_eq!(registry.receiver.requests(0).await.len(), 7, "one event for each deletion, none for bytes");
    assert_eq!(events[3]["request"]["method"], "", "no request has asked for it");
}
