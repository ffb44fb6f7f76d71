//! Findings of the probe.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_store::{Created, Key, ObjectTag, Removed, Storage as _, UploadStart};

use super::azurite::Azurite;
use super::gateway::{Gateway, client};
use super::{RUNTIME, able_bucket, governed};
use crate::testing::{HonoredConditions, Mem, MemOptions, StoreClock, Versions};
use crate::{Objects, ProbeDepth, ProbeError, ProbeReport, StoreAbilities, probe, probe_reading};

fn run(objects: Arc<dyn Objects>, is_exclusive: bool) -> Result<ProbeReport, ProbeError> {
    let objects = governed(objects);
    RUNTIME.block_on(probe(&*objects, None, ProbeDepth::Start, is_exclusive))
}

fn memory(options: MemOptions) -> Arc<Mem> {
    Arc::new(Mem::new(options, StoreClock::system()))
}

#[test]
fn a_store_that_can_do_everything_is_said_to_and_is_left_empty() {
    let mem = memory(MemOptions::default());
    let report = run(mem.clone(), false).unwrap();
    // Signed URLs are not tried without a client, and unequal parts not at a start.
    let expected = StoreAbilities { signs_urls: false, takes_unequal_parts: false, ..StoreAbilities::ALL };
    assert_eq!(report.abilities, expected);
    let untried = report.findings.iter().filter(|finding| finding.outcome.is_none()).count();
    assert_eq!((report.findings.len(), untried), (10, 2));
    assert!(mem.keys().is_empty() && mem.pending_uploads() == 0, "{:?}", mem.keys());
}

#[test]
fn row_220_a_store_that_ignores_the_condition_of_a_creation_is_refused_unless_it_has_one_writer() {
    let options = MemOptions { conditions: HonoredConditions::Nothing, ..MemOptions::default() };
    let error = run(memory(options), false).unwrap_err();
    assert!(error.to_string().starts_with("the store ignores If-None-Match, so that two writers"), "{error}");
    let abilities = run(memory(options), true).unwrap().abilities;
    assert!(!abilities.creates && !abilities.removes_if_unchanged && !abilities.completes_if_absent);
    assert!(abilities.copies && abilities.copies_parts && abilities.removes_many);
}

#[test]
fn row_220_a_store_that_refuses_the_condition_of_a_creation_serves_one_writer() {
    let options = MemOptions { conditions: HonoredConditions::Refused, ..MemOptions::default() };
    let error = run(memory(options), false).unwrap_err();
    assert!(error.to_string().starts_with("the store refuses If-None-Match, so that two writers"), "{error}");
    let mem = memory(options);
    let report = run(mem.clone(), true).unwrap();
    let abilities = report.abilities;
    assert!(!abilities.creates && !abilities.removes_if_unchanged && !abilities.completes_if_absent);
    assert!(report.findings[0].error.as_ref().is_some_and(|error| error.to_string().contains("501")));
    let storage = able_bucket(mem.clone(), abilities);
    let key = Key::of_path("a/b".into()).unwrap();
    assert_eq!(storage.create(&key, b"first").unwrap(), Created::New);
    assert_eq!(storage.create(&key, b"second").unwrap(), Created::Exists("first".into()));
    // A request of a session creates the record of what it has received.
    let repository = "a/b".parse().unwrap();
    let id = "0a1b2c3d-0000-4000-8000-000000000000".parse().unwrap();
    let begun = SystemTime::now();
    let start = UploadStart::Session { repository: &repository, id: &id, begun, announced: None };
    let mut upload = storage.uploads().begin(start).unwrap();
    upload.append(b"bytes").unwrap();
    assert_eq!(upload.acknowledge().unwrap(), 5);
    let tag = storage.head(&key).unwrap().unwrap().tag;
    assert_eq!(storage.remove_if(&key, &ObjectTag::of_version("other")).unwrap(), Removed::Changed);
    assert_eq!(storage.remove_if(&key, &tag).unwrap(), Removed::Removed);
}

#[test]
fn a_store_that_removes_in_spite_of_a_condition_is_used_without() {
    let options = MemOptions { conditions: HonoredConditions::Writes, ..MemOptions::default() };
    let abilities = run(memory(options), false).unwrap().abilities;
    assert!(abilities.creates && !abilities.removes_if_unchanged);
}

#[test]
fn a_store_whose_objects_have_generations_fences_removals_by_them_alone() {
    let abilities = |conditions| {
        let options = MemOptions { versions: Versions::Generations, conditions, ..MemOptions::default() };
        let mem = memory(options);
        let abilities = run(mem.clone(), false).unwrap().abilities;
        assert!(mem.keys().is_empty(), "{:?}", mem.keys());
        abilities
    };
    assert!(abilities(HonoredConditions::All).fences_removals);
    let deaf = abilities(HonoredConditions::Writes);
    assert!(!deaf.removes_if_unchanged && !deaf.fences_removals);
}

#[test]
fn a_store_that_takes_a_body_with_another_hash_is_told_none() {
    let options = MemOptions { verifies_sha256: false, ..MemOptions::default() };
    assert!(!run(memory(options), false).unwrap().abilities.verifies_sha256);
}

#[test]
fn row_221_a_store_whose_lists_lag_is_refused() {
    let options = MemOptions { list_lag: Duration::from_hours(1), ..MemOptions::default() };
    assert!(matches!(run(memory(options), false), Err(ProbeError::StaleLists)));
}

#[test]
fn versitygw_can_do_everything() {
    let Some(gateway) = Gateway::start() else { return };
    for root in ["", "a/b c"] {
        let objects = governed(Arc::new(gateway.beneath(root)));
        let client = client();
        let report = RUNTIME.block_on(probe(&*objects, Some(&client), ProbeDepth::Full, false)).unwrap();
        assert_eq!(report.abilities, StoreAbilities::ALL, "{:#?}", report.findings);
    }
}

#[test]
fn azurite_can_do_everything_but_copy_ranges() {
    let Some(azurite) = Azurite::start() else { return };
    for root in ["", "a/b c"] {
        let objects = governed(Arc::new(azurite.container(root)));
        let client = client();
        let report = RUNTIME.block_on(probe(&*objects, Some(&client), ProbeDepth::Full, false)).unwrap();
        let expected = StoreAbilities { copies_parts: false, verifies_sha256: false, ..StoreAbilities::ALL };
        assert_eq!(report.abilities, expected, "{:#?}", report.findings);
    }
}

#[test]
fn an_identity_of_azure_signs_urls_by_a_key_that_the_store_gives() {
    let Some(azurite) = Azurite::start_with_tokens() else { return };
    let objects = governed(Arc::new(azurite.container_of_token("a/b c")));
    let report =
        RUNTIME.block_on(probe(&*objects, Some(&azurite.client()), ProbeDepth::Start, false)).unwrap();
    assert!(report.abilities.signs_urls, "{:#?}", report.findings);
}

#[test]
fn a_reader_redirects_only_where_signed_urls_work() {
    let Some(gateway) = Gateway::start() else { return };
    let signs = |objects: &dyn Objects, client: &reqwest::Client| {
        let report = RUNTIME.block_on(probe_reading(objects, client));
        assert_eq!(
            report.abilities,
            StoreAbilities { signs_urls: report.abilities.signs_urls, ..StoreAbilities::ALL }
        );
        report.abilities.signs_urls
    };
    assert!(signs(&gateway.beneath("a/b c"), &client()));
    // URLs that a store answers with something else: the bucket in memory signs for a host that does not exist.
    let mem = memory(MemOptions::default());
    assert!(!signs(&*mem, &client()));
    assert!(!signs(&*memory(MemOptions { signs: false, ..MemOptions::default() }), &client()));
    assert!(mem.keys().is_empty());
}
