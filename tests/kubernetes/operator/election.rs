//! Several operators, of which one leads.

use std::time::Duration;

use quinistry::operator::{OperatorError, Settings};
use serde_json::json;

use crate::operator::api::{Api, until};
use crate::operator::running::{Running, a_while};

/// An operator that stands for election.
fn stand(config: &kube::Config) -> Running {
    Running::begin(config, Settings { lease: Some("pantry".into()), ..Settings::default() })
}

fn is_reported(api: &Api) -> bool {
    api.condition("Progressing").is_some()
}

#[tokio::test]
async fn one_leads_and_the_other_follows_when_it_leaves() {
    let api = Api::new();
    let config = api.serve().await;
    let first = stand(&config);
    until(&api, is_reported).await;
    let leader = api.holder().unwrap();
    let second = stand(&config);
    a_while().await;
    let writes = api.writes();
    assert_eq!(writes.iter().filter(|write| write.starts_with("apply")).count(), 1, "{writes:?}");
    assert_eq!(api.holder().as_ref(), Some(&leader));

    // What is gone is made again, by the one that leads by then.
    first.end().await.unwrap();
    assert_eq!(api.holder().as_deref(), Some(""));
    api.sets.lock().unwrap().clear();
    api.resource.lock().unwrap()["status"] = json!(null);
    until(&api, |api| api.holder().is_some_and(|holder| !holder.is_empty() && holder != leader)).await;
    second.end().await.unwrap();
    let lease = api.lease.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1, "{lease}");
}

#[tokio::test]
async fn nothing_is_written_while_somebody_else_leads() {
    let api = Api::new();
    *api.lease.lock().unwrap() = Some(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "pantry", "resourceVersion": "3"},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 12}}));
    let config = api.serve().await;
    let standing = stand(&config);
    a_while().await;
    standing.end().await.unwrap();
    assert_eq!(api.writes(), Vec::<String>::new());
    assert_eq!(api.holder().as_deref(), Some("somebody"), "a Lease that is another's is not given back");
}

#[tokio::test]
async fn a_leader_that_was_followed_ends_and_writes_nothing_more() {
    let api = Api::new();
    let config = api.serve().await;
    let standing = stand(&config);
    until(&api, is_reported).await;
    {
        let mut lease = api.lease.lock().unwrap();
        let lease = lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!("somebody");
        lease["metadata"]["resourceVersion"] = json!("77");
    }
    let ended = tokio::time::timeout(Duration::from_mins(1), standing.task).await.unwrap().unwrap();
    let error = ended.unwrap_err();
    assert!(matches!(&error, OperatorError::LostLeadership { holder } if holder == "somebody"), "{error}");
    let writes = api.writes();
    api.sets.lock().unwrap().clear();
    a_while().await;
    assert_eq!(api.writes(), writes);
}

#[tokio::test]
async fn a_lease_that_was_deleted_is_made_again() {
    let api = Api::new();
    let config = api.serve().await;
    let standing = stand(&config);
    until(&api, is_reported).await;
    let leader = api.holder();
    *api.lease.lock().unwrap() = None;
    until(&api, |api| api.holder() == leader).await;
    standing.end().await.unwrap();
}

#[tokio::test]
async fn a_namespace_that_another_operator_has_claimed_is_left_alone_and_that_is_said() {
    let api = Api::new();
    let claim = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "quinistry-claim", "namespace": "pantry", "resourceVersion": "3"},
        "spec": {"holderIdentity": "cellar/other", "leaseDurationSeconds": 60}});
    *api.claim.lock().unwrap() = Some(claim.clone());
    let config = api.serve().await;
    let standing = stand(&config);
    until(&api, |api| api.writes().contains(&"event".into())).await;
    a_while().await;
    standing.end().await.unwrap();
    assert_eq!(api.writes(), ["event"]);
    assert_eq!(*api.claim.lock().unwrap(), Some(claim), "what is another's is neither taken nor given back");
}

#[tokio::test]
async fn a_claim_is_held_by_the_election_and_given_back_by_an_operator_that_is_alone() {
    for (settings, held, left) in [
        (
            Settings { lease: Some("pantry".into()), ..Settings::default() },
            "default/pantry",
            "default/pantry",
        ),
        (Settings::default(), "default/", ""),
    ] {
        let api = Api::new();
        let config = api.serve().await;
        let running = Running::begin(&config, settings);
        until(&api, is_reported).await;
        let holder = |api: &Api| {
            let claim = api.claim.lock().unwrap().clone().unwrap();
            assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], "u1");
            claim["spec"]["holderIdentity"].as_str().unwrap().to_owned()
        };
        assert!(holder(&api).starts_with(held), "{}", holder(&api));
        running.end().await.unwrap();
        assert_eq!(holder(&api), left);
    }
}
