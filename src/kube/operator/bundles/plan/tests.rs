mod size;

use k8s_openapi::jiff::Timestamp;
use quinistry_oci::Digest;

use super::*;
use crate::crd::{BundleName, BundleSpec};
use crate::operator::bundles::parse::parse;

fn digest(number: u64) -> String {
    Digest::sha256(&number.to_be_bytes()).to_string()
}

/// A bundle whose name is its UID, created at this second.
fn bundle(name: &str, second: i64, names: &[(&str, u64)]) -> ObservedBundle {
    let names =
        names.iter().map(|(name, number)| BundleName { name: (*name).into(), digest: digest(*number) });
    let spec = BundleSpec { registry: None, names: names.collect(), digest: None, history: 1 };
    ObservedBundle {
        namespace: "pantry".into(),
        name: name.into(),
        uid: name.into(),
        generation: 1,
        created: Timestamp::from_second(second).unwrap(),
        is_leaving: false,
        spec: parse(&spec),
        status: None,
    }
}

fn keeping(mut bundle: ObservedBundle, history: usize) -> ObservedBundle {
    bundle.spec.as_mut().unwrap().history = history;
    bundle
}

fn registry(name: &str) -> Registry {
    let identity = ResourceIdentity {
        namespace: "pantry".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        generation: 1,
        version: None,
        created: None,
        is_leaving: false,
    };
    Registry { identity, is_unreachable: false, has_store: true }
}

/// The `ConfigMap` as it is after a write.
fn written(wanted: &WantedNames) -> Arc<ObservedNames> {
    Arc::new(ObservedNames {
        version: "1".into(),
        resource: Some(wanted.registry.identity.name.clone()),
        controller: Some((wanted.registry.identity.uid.clone(), "Quinistry".into())),
        applied: Some(build::hash(&wanted.data)),
        data: wanted.data.clone(),
    })
}

/// Plans for one registry, larder, upon the `ConfigMap` of an earlier plan.
fn planned(bundles: &[ObservedBundle], before: Option<&NamespacePlan>) -> NamespacePlan {
    let former = before.map(|plan| ("larder".to_owned(), written(&plan.maps[0])));
    let bundles: Vec<_> = bundles.iter().cloned().map(Arc::new).collect();
    plan(&bundles, &[registry("larder")], &former.into_iter().collect())
}

fn document(plan: &NamespacePlan) -> NamesDocument {
    serde_json::from_str(&plan.maps[0].data[NAMES_KEY]).unwrap()
}

fn names(plan: &NamespacePlan) -> Vec<String> {
    document(plan).names.into_iter().map(|name| name.name).collect()
}

fn kept(plan: &NamespacePlan) -> Vec<String> {
    document(plan).keep.iter().map(ToString::to_string).collect()
}

fn image(repository: &str, number: u64) -> String {
    format!("{repository}@{}", digest(number))
}

fn reason(plan: &NamespacePlan, uid: &str) -> Option<BundleReason> {
    let bundle = plan.bundles.iter().find(|bundle| bundle.uid == uid).unwrap();
    bundle.refusal.as_ref().map(|refusal| refusal.reason)
}

fn message<'a>(plan: &'a NamespacePlan, uid: &str) -> &'a str {
    let bundle = plan.bundles.iter().find(|bundle| bundle.uid == uid).unwrap();
    &bundle.refusal.as_ref().unwrap().message
}

#[test]
fn names_of_all_bundles_are_in_one_sorted_document() {
    let plan = planned(
        &[bundle("b", 2, &[("ghcr.io/z:1", 1), ("ghcr.io/a:1", 2)]), bundle("a", 1, &[("ghcr.io/m:1", 3)])],
        None,
    );
    assert_eq!(names(&plan), ["ghcr.io/a:1", "ghcr.io/m:1", "ghcr.io/z:1"]);
    assert!(plan.maps[0].needs_write && kept(&plan).is_empty());
    assert!(plan.bundles.iter().all(|bundle| bundle.refusal.is_none() && bundle.complaint.is_none()));
    assert_eq!(plan.maps[0].images.len(), 3);
}

#[test]
fn stores_remove_nothing_while_no_registry_serves_a_new_bundle() {
    let mut lost = bundle("lost", 2, &[("ghcr.io/b:1", 2)]);
    lost.spec.as_mut().unwrap().registry = Some("lader".into());
    let mut unreadable = bundle("unreadable", 3, &[("ghcr.io/c:1", 3)]);
    unreadable.spec = Err("names stand for two digests".into());
    let served = bundle("a", 1, &[("ghcr.io/a:1", 1)]);
    for (other, why) in [(&lost, BundleReason::RegistryNotFound), (&unreadable, BundleReason::InvalidSpec)] {
        let plan = planned(&[served.clone(), other.clone()], None);
        assert_eq!(reason(&plan, &other.uid), Some(why));
        assert!(document(&plan).partial);
        assert!(message(&plan, &other.uid).ends_with(NOTHING_REMOVED), "{}", message(&plan, &other.uid));
        assert!(!document(&planned(std::slice::from_ref(&served), Some(&plan))).partial);
    }
    // Its images are listed: it was served before.
    let mut known = bundle("known", 2, &[("ghcr.io/b:1", 2)]);
    let first = planned(&[served.clone(), known.clone()], None);
    known.spec.as_mut().unwrap().registry = Some("lader".into());
    let second = planned(&[served.clone(), known.clone()], Some(&first));
    assert!(!document(&second).partial && kept(&second) == [image("ghcr.io/b", 2)]);
    known
        .spec
        .as_mut()
        .unwrap()
        .names
        .push(bundle("x", 1, &[("ghcr.io/d:1", 4)]).spec.unwrap().names.remove(0));
    assert!(document(&planned(&[served, known], Some(&second))).partial, "it has another image now");
}

#[test]
fn images_of_a_taken_name_are_kept_and_so_the_list_is_complete() {
    let plan = planned(&[bundle("a", 1, &[("ghcr.io/a:1", 1)]), bundle("b", 2, &[("ghcr.io/a:1", 2)])], None);
    assert_eq!(reason(&plan, "b"), Some(BundleReason::NameTaken));
    assert!(!document(&plan).partial && kept(&plan) == [image("ghcr.io/a", 2)]);
    assert!(!message(&plan, "b").contains(NOTHING_REMOVED));
}

#[test]
fn the_same_bundles_are_not_written_again_and_drift_is() {
    let bundles = [bundle("a", 1, &[("ghcr.io/a:1", 1)])];
    let first = planned(&bundles, None);
    let second = planned(&bundles, Some(&first));
    assert!(!second.maps[0].needs_write);
    assert_eq!(second.maps[0].data, first.maps[0].data);
    let drifted = |change: &dyn Fn(&mut ObservedNames)| {
        let mut map = (*written(&first.maps[0])).clone();
        change(&mut map);
        let former = [("larder".to_owned(), Arc::new(map))].into();
        let plan = plan(&bundles.clone().map(Arc::new), &[registry("larder")], &former);
        assert_eq!(plan.maps[0].data[NAMES_KEY], first.maps[0].data[NAMES_KEY]);
        plan.maps[0].needs_write
    };
    assert!(!drifted(&|_| {}));
    assert!(drifted(&|map| map.data.insert(NAMES_KEY.into(), "{}".into()).map_or((), drop)));
    assert!(drifted(&|map| map.data.remove(HISTORY_KEY).map_or((), drop)));
    assert!(drifted(&|map| map.resource = None));
    assert!(drifted(&|map| map.controller = None));
    assert!(drifted(&|map| map.applied = None));
}

#[test]
fn of_two_bundles_that_want_one_name_the_older_holds_it_and_the_rest_of_the_other_counts() {
    for (older, younger) in [(("a", 1), ("b", 2)), (("b", 1), ("a", 2)), (("a", 1), ("b", 1))] {
        let one = bundle(older.0, older.1, &[("ghcr.io/shop:1", 1)]);
        let other = bundle(younger.0, younger.1, &[("ghcr.io/shop:1", 2), ("ghcr.io/till:1", 3)]);
        let plan = planned(&[other, one], None);
        assert_eq!(names(&plan), ["ghcr.io/shop:1", "ghcr.io/till:1"]);
        assert_eq!(document(&plan).names[0].digest, digest(1), "{older:?} is older than {younger:?}");
        assert_eq!(reason(&plan, older.0), None);
        assert_eq!(reason(&plan, younger.0), Some(BundleReason::NameTaken));
        let text = message(&plan, younger.0);
        assert!(
            text.contains("1 of 2 names") && text.contains(&format!("Bundle pantry/{}", older.0)),
            "{text}"
        );
        assert_eq!(
            kept(&plan),
            [image("ghcr.io/shop", 2)],
            "stores keep it for the time when the name is free"
        );
    }
}

#[test]
fn two_bundles_may_give_one_name_the_same_digest_and_the_last_one_takes_it_along() {
    let (one, other) = (bundle("a", 1, &[("ghcr.io/shop:1", 1)]), bundle("b", 2, &[("ghcr.io/shop:1", 1)]));
    let both = planned(&[one, other.clone()], None);
    assert_eq!((names(&both).len(), reason(&both, "b")), (1, None));
    let left = planned(&[other], Some(&both));
    assert_eq!(names(&left), ["ghcr.io/shop:1"]);
    assert!(names(&planned(&[], Some(&left))).is_empty());
}

#[test]
fn spellings_with_a_port_count_as_one_name() {
    let plan = planned(
        &[bundle("a", 1, &[("registry.lan:5000/x:1", 1)]), bundle("b", 2, &[("registry.lan_5000/x:1", 2)])],
        None,
    );
    assert_eq!((names(&plan).len(), reason(&plan, "b")), (1, Some(BundleReason::NameTaken)));
}

#[test]
fn an_upgrade_keeps_the_former_images_and_a_rollback_the_later_ones() {
    let old = [bundle("a", 1, &[("ghcr.io/shop:1", 1), ("ghcr.io/till:1", 9)])];
    let new = [bundle("a", 1, &[("ghcr.io/shop:2", 2), ("ghcr.io/till:1", 9)])];
    let first = planned(&old, None);
    let second = planned(&new, Some(&first));
    assert_eq!(names(&second), ["ghcr.io/shop:2", "ghcr.io/till:1"]);
    assert_eq!(kept(&second), [image("ghcr.io/shop", 1)], "what a name still means needs no second entry");
    assert_eq!(second.bundles[0].previous, [image("ghcr.io/shop", 1), image("ghcr.io/till", 9)]);
    let back = planned(&old, Some(&second));
    assert_eq!((names(&back), kept(&back)), (names(&first), vec![image("ghcr.io/shop", 2)]));
    // Applied again, nothing changes.
    let again = planned(&old, Some(&back));
    assert!(!again.maps[0].needs_write);
}

#[test]
fn history_has_as_many_lists_as_the_specification_says() {
    let version = |number, history| [keeping(bundle("a", 1, &[("ghcr.io/shop:latest", number)]), history)];
    let mut plan = planned(&version(1, 2), None);
    for number in 2..=4 {
        plan = planned(&version(number, 2), Some(&plan));
    }
    assert_eq!(kept(&plan).len(), 2);
    assert_eq!(plan.bundles[0].previous, [image("ghcr.io/shop", 3)]);
    let less = planned(&version(4, 1), Some(&plan));
    assert_eq!(kept(&less), [image("ghcr.io/shop", 3)]);
    let none = planned(&version(4, 0), Some(&less));
    assert!(kept(&none).is_empty() && none.bundles[0].previous.is_empty());
}

#[test]
fn a_deleted_bundle_takes_names_and_history_along() {
    let other = bundle("b", 2, &[("ghcr.io/till:1", 7)]);
    let first = planned(&[bundle("a", 1, &[("ghcr.io/shop:1", 1)]), other.clone()], None);
    let second = planned(&[bundle("a", 1, &[("ghcr.io/shop:1", 2)]), other.clone()], Some(&first));
    assert_eq!(kept(&second).len(), 1);
    let mut leaving = bundle("a", 1, &[("ghcr.io/shop:1", 2)]);
    leaving.is_leaving = true;
    for bundles in [vec![other.clone()], vec![leaving, other]] {
        let after = planned(&bundles, Some(&second));
        assert_eq!((names(&after), kept(&after)), (vec!["ghcr.io/till:1".to_owned()], Vec::new()));
        assert!(!after.maps[0].data[HISTORY_KEY].contains(&digest(1)));
        assert_eq!(after.bundles.len(), 1);
    }
}

#[test]
fn a_name_that_changes_its_holder_pushes_no_list_out_of_the_history() {
    let shop = |number| bundle("b", 2, &[("ghcr.io/shop:1", number), ("ghcr.io/till:1", 5)]);
    let holder = bundle("a", 1, &[("ghcr.io/shop:1", 9)]);
    let first = planned(&[holder.clone(), shop(1)], None);
    let second = planned(&[holder, shop(2)], Some(&first));
    let alone = planned(&[shop(2)], Some(&second));
    assert_eq!(alone.bundles[0].previous, second.bundles[1].previous);
    assert_eq!(kept(&alone), [image("ghcr.io/shop", 1)]);
}

#[test]
fn images_of_a_bundle_that_cannot_be_read_any_more_are_kept() {
    let first = planned(&[bundle("a", 1, &[("ghcr.io/shop:1", 1)])], None);
    let mut odd = bundle("a", 1, &[("ghcr.io/shop:1", 1)]);
    odd.spec = Err("of another version".into());
    let plan = planned(&[odd], Some(&first));
    assert_eq!(reason(&plan, "a"), Some(BundleReason::InvalidSpec));
    assert_eq!((names(&plan).len(), kept(&plan)), (0, vec![image("ghcr.io/shop", 1)]));
    let back = planned(&[bundle("a", 1, &[("ghcr.io/shop:1", 1)])], Some(&plan));
    assert_eq!(back.maps[0].data, first.maps[0].data);
}

#[test]
fn images_of_a_bundle_without_history_are_kept_as_well_when_it_cannot_be_read() {
    let bundle = || keeping(bundle("a", 1, &[("ghcr.io/shop:1", 1)]), 0);
    let first = planned(&[bundle()], None);
    let odd = ObservedBundle { spec: Err("of another version".into()), ..bundle() };
    let plan = planned(&[odd], Some(&first));
    assert_eq!(kept(&plan), [image("ghcr.io/shop", 1)]);
    let next = keeping(self::bundle("a", 1, &[("ghcr.io/shop:1", 2)]), 0);
    let after = planned(&[next], Some(&plan));
    assert!(kept(&after).is_empty() && after.bundles[0].previous.is_empty());
}

#[test]
fn the_registry_is_the_named_one_or_the_only_one() {
    let named = |name: Option<&str>| {
        let mut bundle = bundle("a", 1, &[("ghcr.io/shop:1", 1)]);
        bundle.spec.as_mut().unwrap().registry = name.map(str::to_owned);
        [Arc::new(bundle)]
    };
    let none = BTreeMap::new();
    let two = [registry("cellar"), registry("larder")];
    let of = |name, registries: &[Registry]| plan(&named(name), registries, &none);
    assert_eq!(reason(&of(None, &[]), "a"), Some(BundleReason::RegistryNotFound));
    assert_eq!(reason(&of(Some("attic"), &two), "a"), Some(BundleReason::RegistryNotFound));
    assert_eq!(reason(&of(None, &two), "a"), Some(BundleReason::RegistryAmbiguous));
    let chosen = of(Some("larder"), &two);
    assert_eq!((reason(&chosen, "a"), chosen.maps.len()), (None, 1));
    assert_eq!(chosen.maps[0].registry.identity.name, "larder");
    assert_eq!(reason(&of(None, &two[..1]), "a"), None);
}

fn without_store(name: &str) -> Registry {
    Registry { has_store: false, ..registry(name) }
}

#[test]
fn another_resource_takes_no_names_away() {
    let bundles = [Arc::new(bundle("a", 1, &[("ghcr.io/shop:1", 1)]))];
    let first = plan(&bundles, &[registry("larder")], &BTreeMap::new());
    let former: BTreeMap<_, _> = [("larder".to_owned(), written(&first.maps[0]))].into();
    for other in [without_store("cellar"), registry("cellar"), without_store("pier"), registry("pier")] {
        let mut all = [registry("larder"), other];
        all.sort_by(|one, other| one.identity.name.cmp(&other.identity.name));
        let second = plan(&bundles, &all, &former);
        assert_eq!((reason(&second, "a"), second.maps.len()), (None, 1), "{all:?}");
        assert_eq!(second.bundles[0].registry.as_deref(), Some("uid-of-larder"));
        assert!(!second.maps[0].needs_write);
    }
    // A bundle that none of them holds is refused, and only that one.
    let more = [bundles[0].clone(), Arc::new(bundle("b", 2, &[("ghcr.io/till:1", 2)]))];
    let third = plan(&more, &[registry("cellar"), registry("larder")], &former);
    assert_eq!((reason(&third, "a"), reason(&third, "b")), (None, Some(BundleReason::RegistryAmbiguous)));
    assert_eq!(names(&third), ["ghcr.io/shop:1"]);
}

#[test]
fn a_resource_without_stores_serves_no_bundle_and_its_history_waits() {
    let named = |name: Option<&str>| {
        let mut bundle = bundle("a", 1, &[("ghcr.io/shop:1", 1)]);
        bundle.spec.as_mut().unwrap().registry = name.map(str::to_owned);
        [Arc::new(bundle)]
    };
    for name in [None, Some("larder")] {
        let plan = plan(&named(name), &[without_store("larder")], &BTreeMap::new());
        assert_eq!(reason(&plan, "a"), Some(BundleReason::RegistryWithoutStore));
        assert!(message(&plan, "a").contains("add spec.store"), "{}", message(&plan, "a"));
        assert!(plan.maps.is_empty() && plan.bundles[0].registry.is_none());
    }
    let first = plan(&named(None), &[registry("larder")], &BTreeMap::new());
    let former = [("larder".to_owned(), written(&first.maps[0]))].into();
    let away = plan(&named(None), &[without_store("larder")], &former);
    assert_eq!((names(&away).len(), kept(&away)), (0, vec![image("ghcr.io/shop", 1)]));
    let former = [("larder".to_owned(), written(&away.maps[0]))].into();
    let back = plan(&named(None), &[registry("larder")], &former);
    assert_eq!(back.maps[0].data, first.maps[0].data);
    // The history does not stay behind when another resource serves the bundle.
    let moved = plan(&named(None), &[registry("cellar"), without_store("larder")], &former);
    assert_eq!(moved.maps[1].data[HISTORY_KEY], "{}");
}

#[test]
fn a_resource_that_cannot_be_read_keeps_the_stores_that_it_had() {
    let identity = registry("larder").identity;
    let spec = |store: bool| -> QuinistrySpec {
        let mut spec = serde_json::json!({"image": "registry.example.com/larder:1"});
        if store {
            spec["store"] = serde_json::json!({});
        }
        serde_json::from_value(spec).unwrap()
    };
    for has_names in [false, true] {
        assert_eq!(Registry::new(&identity, None, has_names).has_store, has_names);
        assert!(Registry::new(&identity, Some(&spec(true)), has_names).has_store);
        assert!(!Registry::new(&identity, Some(&spec(false)), has_names).has_store);
    }
}

#[test]
fn without_bundles_nothing_is_made_and_what_is_there_is_emptied() {
    assert_eq!(planned(&[], None), NamespacePlan::default());
    let first = planned(&[bundle("a", 1, &[("ghcr.io/shop:1", 1)])], None);
    let empty = planned(&[], Some(&first));
    assert_eq!(empty.maps[0].data[NAMES_KEY], r#"{"names":[],"keep":[]}"#);
    assert!(empty.maps[0].needs_write && !planned(&[], Some(&empty)).maps[0].needs_write);
}
