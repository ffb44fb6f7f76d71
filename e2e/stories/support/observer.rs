//! Records all changes in a story's namespace for as long as the story lasts, and checks them against the
//! chain rule.
//!
//! Each kind has its own watch; resource versions put the events of all kinds into one order, since all kinds
//! are stored in one etcd. A broken watch continues where it stopped. A watch that must list again records
//! the gap, and the changes in the gap are judged by the state after it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event as WatchEvent, watcher};
use kube::{Api, Resource, ResourceExt};
use quinistry::crd::Quinistry;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::chain_rule::{Event, Key, Pod, Set, What, violations};
use super::pods::GENERATION;
use super::{Stage, daemon_sets, wait};

/// Field manager of the operator.
const OPERATOR_MANAGER: &str = "quinistry-operator";
const RESOURCE_LABEL: &str = "quinistry.dev/resource";
const TEMPLATE_ANNOTATION: &str = "quinistry.dev/template";

/// Pause before a broken watch is opened again; events in between are recorded late.
const WATCH_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Record of all changes in a story's namespace, and of the nodes.
pub struct Observer {
    log: Arc<EventLog>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

struct EventLog {
    began: Instant,
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

// === impl Observer ===

impl Observer {
    /// Starts the watches, and returns when all existing objects are recorded.
    pub async fn start(stage: &Stage) -> Result<Self> {
        let client = stage.world.client.clone();
        let log = Arc::new(EventLog {
            began: Instant::now(),
            events: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let nodes = Api::<core::Node>::all(client);
        let tasks = vec![
            tokio::spawn(watch_kind(Arc::clone(&log), stage.resources(), resource)),
            tokio::spawn(watch_kind(Arc::clone(&log), stage.daemon_sets(), set)),
            tokio::spawn(watch_kind(Arc::clone(&log), stage.pods(), pod)),
            tokio::spawn(watch_kind(Arc::clone(&log), nodes, node)),
        ];
        let observer = Self { log, tasks };
        let all = observer.tasks.len();
        wait::eventually(Duration::from_secs(30), "the observer has listed all kinds", || async {
            let events = observer.log.events();
            let sighted = events.iter().filter(|event| matches!(event.what, What::Sighted(_))).count();
            ensure!(sighted >= all, "{sighted} of {all} kinds are listed");
            Ok(())
        })
        .await?;
        Ok(observer)
    }

    /// Returns the number of events so far.
    pub fn count(&self) -> usize {
        *self.log.count.borrow()
    }

    /// Returns all events so far, in the order of their arrival.
    pub fn events(&self) -> Vec<Event> {
        self.log.events()
    }

    /// Returns the time since the start of the observer, on which the times of events are based.
    pub fn now(&self) -> Duration {
        self.log.began.elapsed()
    }

    /// Waits until there are `count` events.
    pub async fn until_count(&self, count: usize) {
        // The sender lives as long as the observer.
        let _ = self.log.count.subscribe().wait_for(|now| *now >= count).await;
    }

    /// Waits until the events of all current objects have arrived, and returns an error that lists the
    /// violations of the chain rule.
    pub async fn check_chain_rule(&self, stage: &Stage) -> Result<()> {
        let all = ListParams::default();
        let sets = stage.daemon_sets().list(&all).await?;
        let pods = stage.pods().list(&all).await?;
        // Without objects that the observer does not record, such as those of generation 0.
        let sets = sets.iter().filter(|one| set(one, false).is_some()).map(version);
        let pods = pods.iter().filter(|one| pod(one, false).is_some()).map(version);
        let current: BTreeSet<u64> = sets.chain(pods).filter(|version| *version > 0).collect();
        wait::eventually(Duration::from_secs(30), "the observer has received all events", || async {
            let received: BTreeSet<u64> = self.log.events().iter().map(|event| event.version).collect();
            let missing = current.difference(&received).count();
            ensure!(missing == 0, "events of {missing} of {} objects are missing", current.len());
            Ok(())
        })
        .await?;
        let events = self.log.events();
        let (all, found) = (events.len(), violations(events));
        stage.log(format_args!("{all} events observed, {} violate the chain rule", found.len()));
        if found.is_empty() {
            return Ok(());
        }
        Err(anyhow!("chain rule violated:\n{}", found.join("\n")))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

// === impl EventLog ===

impl EventLog {
    fn events(&self) -> Vec<Event> {
        self.events.lock().expect("nothing panics with it").clone()
    }

    /// Adds an event. An event without a version of its own is ordered after all events so far.
    fn add(&self, version: Option<u64>, what: What) {
        let mut events = self.events.lock().expect("nothing panics with it");
        let version = version.or_else(|| events.iter().map(|event| event.version).max()).unwrap_or_default();
        events.push(Event { version, at: self.began.elapsed(), what });
        self.count.send_replace(events.len());
    }
}

/// Follows one kind. `view` translates an object, which exists or is deleted, into an event.
async fn watch_kind<K>(log: Arc<EventLog>, api: Api<K>, view: fn(&K, bool) -> Option<What>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = std::any::type_name::<K>();
    let mut known: Vec<K> = Vec::new();
    let mut listed: Vec<K> = Vec::new();
    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = stream.next().await {
        match event {
            Ok(WatchEvent::Init) => {
                listed.clear();
                log.add(None, What::Blind(kind));
            }
            Ok(WatchEvent::InitApply(object)) => listed.push(object),
            Ok(WatchEvent::InitDone) => {
                let uids: BTreeSet<_> = listed.iter().map(ResourceExt::uid).collect();
                for gone in known.iter().filter(|object| !uids.contains(&object.uid())) {
                    if let Some(what) = view(gone, true) {
                        log.add(None, what);
                    }
                }
                known = std::mem::take(&mut listed);
                for object in &known {
                    if let Some(what) = view(object, false) {
                        log.add(Some(version(object)), what);
                    }
                }
                log.add(None, What::Sighted(kind));
            }
            Ok(WatchEvent::Apply(object)) => {
                known.retain(|other| other.uid() != object.uid());
                if let Some(what) = view(&object, false) {
                    log.add(Some(version(&object)), what);
                }
                known.push(object);
            }
            Ok(WatchEvent::Delete(object)) => {
                known.retain(|other| other.uid() != object.uid());
                if let Some(what) = view(&object, true) {
                    log.add(Some(version(&object)), what);
                }
            }
            // The stream continues where it stopped.
            Err(_) => tokio::time::sleep(WATCH_RETRY_PAUSE).await,
        }
    }
}

/// Returns the resource version, by which the events of all kinds are ordered.
pub fn version<K: ResourceExt>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

fn resource(object: &Quinistry, gone: bool) -> Option<What> {
    let uid = object.uid()?;
    let gone = gone || object.metadata.deletion_timestamp.is_some();
    Some(if gone { What::ResourceGone(uid) } else { What::Resource(uid) })
}

fn node(object: &core::Node, gone: bool) -> Option<What> {
    let name = object.name_any();
    if gone {
        return Some(What::NodeGone(name));
    }
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions?.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    Some(What::Node { name, ready })
}

fn set(object: &DaemonSet, gone: bool) -> Option<What> {
    let spec = object.spec.as_ref()?;
    let key = key(spec.selector.match_labels.as_ref()?)?;
    if gone {
        return Some(What::SetGone(key));
    }
    let annotations = spec.template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    Some(What::Set(Set {
        key,
        uid: object.uid()?,
        template: format!("{} {}", annotations?.get(TEMPLATE_ANNOTATION)?, daemon_sets::image(object)),
        by_operator: is_image_owned_by_operator(object),
        deleting: object.metadata.deletion_timestamp.is_some(),
    }))
}

/// Returns true if the operator owns the current image: a writer that forces another image takes the field
/// over.
pub fn is_image_owned_by_operator(object: &DaemonSet) -> bool {
    let path = ["f:spec", "f:template", "f:spec", "f:containers", "k:{\"name\":\"quinistry\"}", "f:image"];
    object.managed_fields().iter().filter(|fields| fields.manager.as_deref() == Some(OPERATOR_MANAGER)).any(
        |fields| {
            let all = fields.fields_v1.as_ref().map(|fields| &fields.0);
            all.and_then(|all| path.iter().try_fold(all, |value, key| value.get(*key))).is_some()
        },
    )
}

fn pod(object: &core::Pod, gone: bool) -> Option<What> {
    let uid = object.uid()?;
    if gone {
        return Some(What::PodGone(uid));
    }
    let spec = object.spec.as_ref()?;
    let image = spec.containers.first()?.image.as_deref()?;
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
    Some(What::Pod(Pod {
        key: key(object.labels())?,
        uid,
        node: spec.node_name.clone().unwrap_or_default(),
        template: format!("{} {image}", object.annotations().get(TEMPLATE_ANNOTATION)?),
        ready: conditions
            .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True")),
        deleting: object.metadata.deletion_timestamp.is_some(),
    }))
}

fn key(labels: &std::collections::BTreeMap<String, String>) -> Option<Key> {
    Some((labels.get(RESOURCE_LABEL)?.clone(), labels.get(GENERATION)?.parse().ok()?))
}
