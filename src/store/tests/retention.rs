//! Retention on a folder: pushes win, and what remains is whole.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use quinistry_oci::{Digest, Manifest, RepositoryName, Tag, media_type, to_json};
use serde_json::json;

use super::{folder, manifest, name, open, push_blob, put, resolve_tag};
use crate::layout::RepositoryKeys;
use crate::retention::{
    Criteria, DryRun, NoPulls, Percentage, Policies, Policy, RetentionInputs, RetentionReport,
    RetentionRules, RetentionRun, TagMatcher, TagRule,
};
use crate::{
    Access, Collection, Filesystem, LooseRevision, Page, RepositoryMatcher, RevisionRules as _, Store,
    TagRules, Tagged,
};

/// Matcher of all names that begin with a text.
#[derive(Debug)]
pub(super) struct Prefix(pub(super) &'static str);

impl TagMatcher for Prefix {
    fn matches(&self, name: &str) -> bool {
        name.starts_with(self.0)
    }
}

impl RepositoryMatcher for Prefix {
    fn matches(&self, repository: &RepositoryName) -> bool {
        repository.as_str().starts_with(self.0)
    }
}

/// Policies that keep tags beginning with `keep`, and no other.
pub(super) fn policies() -> Policies {
    let keep = TagRule { tags: Arc::new(Prefix("keep")), criteria: Criteria::default() };
    let policy = Policy {
        repositories: Arc::new(Prefix("team/")),
        keep_tags: vec![keep],
        untagged: Some(Criteria { pushed_within: Some(Duration::ZERO), ..Criteria::default() }),
        keeps_referrers: false,
    };
    Policies {
        dry_run: false,
        max_delete: Percentage::ALL,
        list: vec![policy],
        hash: Digest::sha256(b"policies"),
    }
}

pub(super) const AT_ONCE: RetentionRun<'static> = RetentionRun { lead: None, applies_changes_at_once: true };

/// Runs retention, and calls `between` after the facts about the first tag were read and before any is deleted.
pub(super) fn run_with(
    store: &Store,
    policies: &Policies,
    run: RetentionRun<'_>,
    between: impl FnOnce() + Send,
) -> RetentionReport {
    let between = Mutex::new(Some(between));
    let hook = |_: &RepositoryName, _: &Tag| {
        let between = between.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(between) = between {
            between();
        }
        false
    };
    let inputs = RetentionInputs { pulls: &NoPulls, is_protected: &hook };
    store.run_retention(policies, inputs, run).unwrap()
}

pub(super) fn run(store: &Store, policies: &Policies, run: RetentionRun<'_>) -> RetentionReport {
    run_with(store, policies, run, || ())
}

pub(super) fn tags_of(store: &Store, repository: &str) -> Vec<String> {
    let page = Page { size: 100, last: String::new() };
    let (tags, _) = store.tags(&name(repository), &page).unwrap();
    tags.iter().map(ToString::to_string).collect()
}

/// Returns the tags of a report's deletions.
pub(super) fn deleted(report: &RetentionReport) -> Vec<String> {
    report.deleted.iter().map(|deleted| deleted.judged.facts.tag.to_string()).collect()
}

/// Pushes one image under each tag.
fn fill(store: &Store, repository: &str, tags: &[&str]) {
    push_blob(store, repository, b"{}").unwrap();
    push_blob(store, repository, b"layer").unwrap();
    for tag in tags {
        put(store, repository, &manifest(b"layer", tag), &[tag]).unwrap();
    }
}

#[test]
fn tags_that_no_policy_keeps_are_deleted_and_no_others() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1", "old", "older"]);
    fill(&store, "other/app", &["old"]);
    let report = run(&store, &policies(), AT_ONCE);
    assert_eq!(deleted(&report), ["old", "older"]);
    assert_eq!((report.repositories, report.tags, report.changed), (1, 3, 0));
    assert_eq!(tags_of(&store, "team/app"), ["keep-1"]);
    assert_eq!(tags_of(&store, "other/app"), ["old"]);
    assert_eq!(resolve_tag(&store, "team/app", "old"), None, "no cache serves the tag");
    assert!(run(&store, &policies(), AT_ONCE).deleted.is_empty());
}

#[test]
fn each_deletion_is_recorded_with_policy_and_reason() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1", "old"]);
    run(&store, &policies(), AT_ONCE);
    store.flush_deletions().unwrap();
    let mut records = String::new();
    let audit = folder.path().join("docker/registry/v2/_quinistry/audit");
    for date in std::fs::read_dir(audit).unwrap() {
        for object in std::fs::read_dir(date.unwrap().path()).unwrap() {
            records += &std::fs::read_to_string(object.unwrap().path()).unwrap();
        }
    }
    let record: serde_json::Value = serde_json::from_str(records.trim()).unwrap();
    assert_eq!(record["actor"], "retention");
    assert_eq!(
        (&record["subject"]["repository"], &record["subject"]["tag"]),
        (&json!("team/app"), &json!("old"))
    );
    assert_eq!(record["policy"], format!("policies[0] of {}", policies().hash));
    assert_eq!(record["reason"], "no pattern of policies[0].keeptags");
}

#[test]
fn a_push_between_judgement_and_deletion_wins() {
    for note in ["another image", "old"] {
        let folder = folder();
        let store = open(folder.path());
        fill(&store, "team/app", &["keep-1", "old", "older"]);
        let pushed = manifest(b"layer", note);
        let report = run_with(&store, &policies(), AT_ONCE, || {
            put(&store, "team/app", &pushed, &["old"]).unwrap();
        });
        assert_eq!((deleted(&report), report.changed), (vec!["older".to_owned()], 1), "{note}");
        assert_eq!(resolve_tag(&store, "team/app", "old"), Some(Digest::sha256(&pushed)));
    }
}

#[test]
fn a_tag_that_a_client_deletes_first_is_not_reported() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1", "old"]);
    let report = run_with(&store, &policies(), AT_ONCE, || {
        store.delete_tag(&name("team/app"), &"old".parse().unwrap()).unwrap();
    });
    assert_eq!((deleted(&report).len(), report.changed), (0, 1));
}

#[test]
fn changed_policies_run_dry_once() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1", "old"]);
    let usual = RetentionRun::default();
    let first = run(&store, &policies(), usual);
    assert_eq!((first.dry_run, deleted(&first)), (Some(DryRun::PoliciesChanged), vec!["old".to_owned()]));
    assert_eq!(tags_of(&store, "team/app"), ["keep-1", "old"]);
    let changed = Policies { hash: Digest::sha256(b"others"), ..policies() };
    assert_eq!(run(&store, &changed, usual).dry_run, Some(DryRun::PoliciesChanged));
    // A later start remembers the policies of the last run.
    drop(store);
    let store = open(folder.path());
    let second = run(&store, &changed, usual);
    assert_eq!((second.dry_run, deleted(&second)), (None, vec!["old".to_owned()]));
    assert_eq!(tags_of(&store, "team/app"), ["keep-1"]);
}

#[test]
fn nothing_is_deleted_until_the_configuration_says_so() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1", "old"]);
    let dry = Policies { dry_run: true, ..policies() };
    for _ in 0..2 {
        let report = run(&store, &dry, AT_ONCE);
        assert_eq!((report.dry_run, deleted(&report).len()), (Some(DryRun::Configured), 1));
    }
    assert_eq!(tags_of(&store, "team/app"), ["keep-1", "old"]);
    let report = run(&store, &policies(), RetentionRun::default());
    assert_eq!(report.dry_run, None, "the dry runs have shown the plan");
}

#[test]
fn too_many_tags_are_told_and_none_is_deleted() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1", "old", "older"]);
    fill(&store, "team/other", &["keep-1", "keep-2", "old"]);
    let policies = Policies { max_delete: Percentage::new(50).unwrap(), ..policies() };
    let report = run(&store, &policies, AT_ONCE);
    assert_eq!(report.excesses.len(), 1);
    let excess = &report.excesses[0];
    assert_eq!((excess.repository.as_str(), excess.deleted, excess.tags), ("team/app", 2, 3));
    assert_eq!(tags_of(&store, "team/app").len(), 3);
    assert_eq!(tags_of(&store, "team/other"), ["keep-1", "keep-2"]);
}

#[test]
fn a_plan_reads_a_folder_that_another_process_writes() {
    let folder = folder();
    let writer = open(folder.path());
    fill(&writer, "team/app", &["keep-1", "old"]);
    let reader = Store::open(Filesystem::open(folder.path(), Access::Read).unwrap(), false).unwrap();
    let inputs = RetentionInputs { pulls: &NoPulls, is_protected: &|_, _| false };
    let mut planned = Vec::new();
    let visit = &mut |_: &RepositoryName, plan: crate::retention::RepositoryPlan| {
        planned.extend(plan.tags.iter().map(|tag| (tag.facts.tag.to_string(), tag.verdict.deletes())));
        Ok(())
    };
    reader.plan_retention(&policies(), inputs, visit).unwrap();
    assert_eq!(planned, [("keep-1".to_owned(), false), ("old".to_owned(), true)]);
    assert_eq!(tags_of(&writer, "team/app"), ["keep-1", "old"]);
}

/// Rules that protect one tag.
#[derive(Debug)]
struct Protected(&'static str);

impl TagRules for Protected {
    fn is_immutable(&self, _: &RepositoryName, _: &Tag) -> bool {
        false
    }

    fn is_protected(&self, _: &RepositoryName, tag: &Tag) -> bool {
        tag.as_str() == self.0
    }
}

#[test]
fn the_stores_rules_and_records_of_pulls_are_facts() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["lts", "pulled", "unknown"]);
    let repository = name("team/app");
    for tag in ["lts", "pulled", "unknown"] {
        let link = RepositoryKeys(&repository).tag_link(&tag.parse().unwrap());
        let link = std::fs::File::options().write(true).open(super::path(folder.path(), &link)).unwrap();
        link.set_modified(SystemTime::now() - Duration::from_hours(48)).unwrap();
    }
    store.set_tag_rules(Some(Arc::new(Protected("lts"))));
    store.begin_pull_records().unwrap();
    let digest = resolve_tag(&store, "team/app", "pulled").unwrap();
    store.note_pull(&repository, &digest, Some(&"pulled".parse().unwrap()));
    store.fold_pulls().unwrap();
    let criteria = Criteria { pulled_within: Some(Duration::from_hours(12)), ..Criteria::default() };
    let mut policies = policies();
    policies.list[0].keep_tags = vec![TagRule { tags: Arc::new(Prefix("")), criteria }];
    let mut verdicts = Vec::new();
    let visit = &mut |_: &RepositoryName, plan: crate::retention::RepositoryPlan| {
        verdicts.extend(plan.tags.iter().map(|tag| format!("{}: {}", tag.facts.tag, tag.verdict)));
        Ok(())
    };
    store.plan_retention(&policies, RetentionInputs::of(&store), visit).unwrap();
    assert_eq!(
        verdicts,
        [
            "lts: protect",
            "pulled: policies[0].keeptags[0].pulledwithin",
            "unknown: policies[0].keeptags[0].pulledwithin (no statistics)"
        ]
    );
}

#[test]
fn loose_manifests_stay_as_long_as_no_policy_says_otherwise() {
    let folder = folder();
    let store = open(folder.path());
    fill(&store, "team/app", &["keep-1"]);
    let long_ago = SystemTime::now() - Duration::from_hours(48);
    let loose = [LooseRevision { digest: Digest::sha256(b"loose"), pushed: long_ago }];
    let day = Criteria { pushed_within: Some(Duration::from_hours(24)), ..Criteria::default() };
    let mut with = policies();
    with.list[0].untagged = Some(day);
    let mut without = policies();
    without.list[0].untagged = None;
    for (policies, is_dry, repository, stays) in [
        (&with, false, "team/app", false),
        (&with, true, "team/app", true),
        (&with, false, "other/app", true),
        (&without, false, "team/app", true),
    ] {
        let rules = RetentionRules::new(store.clone(), Arc::new(policies.clone()), is_dry);
        let name = name(repository);
        assert_eq!(rules.kept(&name, &loose).len(), usize::from(stays), "{repository} {is_dry}");
        assert_eq!((rules.keeps_all(&name), rules.keeps_referrers(&name)), (stays, stays));
    }
    // Without a tag, manifests go that no policy decides about; a policy that only runs dry keeps its own.
    for (policies, is_dry, repository, stays) in [
        (&with, false, "team/app", false),
        (&with, true, "team/app", true),
        (&with, true, "other/app", false),
        (&without, true, "team/app", false),
    ] {
        let rules = RetentionRules::new(store.clone(), Arc::new(policies.clone()), is_dry);
        let (rules, name) = (rules.removing_unpoliced(true), name(repository));
        assert_eq!(rules.kept(&name, &loose).len(), usize::from(stays), "{repository} {is_dry}");
        assert_eq!((rules.keeps_all(&name), rules.keeps_referrers(&name)), (stays, stays));
    }
}

#[test]
fn children_and_referrers_of_what_stays_stay_in_the_collection_after() {
    let folder = folder();
    let store = open(folder.path());
    let repository = name("team/app");
    push_blob(&store, "team/app", b"{}").unwrap();
    let images: Vec<_> = ["kept", "gone"]
        .into_iter()
        .map(|note| {
            let layer = note.as_bytes();
            push_blob(&store, "team/app", layer).unwrap();
            let child = manifest(layer, note);
            let child_digest = put(&store, "team/app", &child, &[]).unwrap();
            let descriptor = |digest: &Digest, length: usize| {
                json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": length})
            };
            let index = to_json(&json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                "manifests": [descriptor(&child_digest, child.len())],
            }));
            let tag = if note == "kept" { "keep-1" } else { "old" };
            let index = bytes::Bytes::from(index);
            let index_digest = put(&store, "team/app", &index, &[tag]).unwrap();
            let signature: bytes::Bytes = to_json(&json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
                "artifactType": "application/vnd.example.signature",
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
                "layers": [],
                "subject": {"mediaType": media_type::OCI_INDEX, "digest": index_digest, "size": index.len()},
            }))
            .into();
            let parsed = Manifest::parse(&signature, None).unwrap();
            let digest = Digest::sha256(&signature);
            let tagged = Tagged { digest: &digest, tags: &[] };
            store.put_manifest(&repository, &signature, &parsed, tagged).unwrap();
            [child_digest, index_digest, digest]
        })
        .collect();
    let inputs = RetentionInputs { pulls: &NoPulls, is_protected: &|_, _| false };
    let mut freed: Option<Vec<u64>> = None;
    let visit = &mut |name: &RepositoryName, plan: crate::retention::RepositoryPlan| {
        freed = store.bytes_freed_by(&policies(), name, &plan)?;
        Ok(())
    };
    store.plan_retention(&policies(), inputs, visit).unwrap();
    assert_eq!(deleted(&run(&store, &policies(), AT_ONCE)), ["old"]);
    let wanted = Collection {
        grace: Duration::ZERO,
        untagged: true,
        dry_run: false,
        damaged: crate::DamagedManifests::Stop,
    };
    let collected = store.collect(&wanted).unwrap();
    let gone: Vec<_> = collected.manifests.iter().map(|(_, digest)| digest.clone()).collect();
    let [kept_image, gone_image] = &images[..] else { panic!("two images") };
    assert!(gone_image.iter().all(|digest| gone.contains(digest)), "{gone:?}");
    assert!(kept_image.iter().all(|digest| store.revision(&repository, digest).unwrap().is_some()));
    // The estimate leaves out the signature, which no tag reaches.
    let bytes: u64 = collected.blobs.iter().map(|(_, length)| length).sum();
    let signature = collected.blobs.iter().find(|(digest, _)| *digest == gone_image[2]);
    assert_eq!(freed, Some(vec![bytes - signature.unwrap().1]));
}
