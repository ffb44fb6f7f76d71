//! The end of a pod: load balancers leave it out before it stops accepting connections, and it has the time that
//! the program takes.

use std::time::Duration;

use quinistry::http::Limits;
use serde_json::json;

use super::{S3, config, container, objects, pod};
use crate::chart::helm::Helm;

/// Seconds for the last lines of the logs, and to spare.
const REST: i64 = 10;

#[test]
fn the_grace_period_covers_the_delay_and_the_drain() {
    let Some(helm) = Helm::find() else { return };
    for (delay, drain) in [(5, 60), (0, 1), (30, 3600)] {
        let sets = format!("shutdown.delaySeconds={delay},shutdown.drainSeconds={drain}");
        let objects = objects(&helm, &[S3, "replicas=2", &sets]);
        assert_eq!(pod(&objects)["terminationGracePeriodSeconds"], delay + drain + REST);
        assert_eq!(config(&objects)["http"]["draintimeout"], format!("{drain}s"));
        let handler = &container(&objects)["lifecycle"]["preStop"];
        if delay == 0 {
            assert!(handler.is_null(), "a sleep of no seconds needs a newer Kubernetes");
        } else {
            assert_eq!(
                *handler,
                json!({"sleep": {"seconds": delay}}),
                "the image has no shell to sleep with"
            );
        }
    }
}

#[test]
fn the_default_drain_is_longer_than_the_programs() {
    let Some(helm) = Helm::find() else { return };
    let config = config(&objects(&helm, &[]));
    let drain = config["http"]["draintimeout"].as_str().unwrap().strip_suffix('s').unwrap();
    assert!(Duration::from_secs(drain.parse().unwrap()) > Limits::default().drain);
}

#[test]
fn a_pod_that_is_stopped_before_its_successor_starts_does_not_wait() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &["shutdown.delaySeconds=5"]);
    assert!(container(&objects)["lifecycle"].is_null(), "it would only prolong the interruption");
    assert_eq!(pod(&objects)["terminationGracePeriodSeconds"], 60 + REST);
}
