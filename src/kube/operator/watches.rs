//! The watches: what they bring goes into the caches, and whom it concerns into the queue.
//!
//! Requests are gathered for a moment before they are handed on (see `pace`). The moment begins with the first one: a cluster
//! where something always changes must not be put off for ever.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::runtime::reflector;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError};

use super::cache::{Cache, Cacheable};
use super::error::Category;
use super::resource::WatchedResource;
use super::{Operator, observe};
use crate::api::names::labels::RESOURCE;
use crate::api::types::{self, Metadata as _};
use crate::lenient::Guarded;
use crate::one_line::one_line;

/// The longest pause before a watch that failed begins anew, and with it everything that the operator does. kube's own is
/// six times as long.
const MAX_WATCH_PAUSE: Duration = Duration::from_secs(5);

/// Seconds after which a watch is ended and begun again where it was. One that says nothing for five seconds
/// longer hangs, as behind a proxy that has forgotten it, and is begun again too; so nothing is older than
/// this without a word.
const WATCH_SECONDS: u32 = 40;

/// kube's pauses, but never that long.
#[derive(Default)]
struct CappedBackoff(DefaultBackoff);

/// Where to put the resources to look at.
pub(super) type Requests = mpsc::UnboundedSender<ObjectRef<WatchedResource>>;

/// Starts the watches, and yields the resources to look at until `stop` resolves.
pub(super) fn queue(
    operator: &Arc<Operator>,
    writer: Writer<WatchedResource>,
    mut requests: mpsc::UnboundedReceiver<ObjectRef<WatchedResource>>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Result<ObjectRef<WatchedResource>, Infallible>> + Send {
    let sender = operator.requests.clone();
    let client = operator.client.clone();
    let namespace = operator.namespace.as_deref();
    let owned = config().labels(RESOURCE);
    let watches = [
        supervise(
            operator,
            "quinistries",
            resources(operator.clone(), api(client.clone(), namespace), writer, sender.clone()),
        ),
        supervise(
            operator,
            "daemonsets",
            watch_into(
                operator.clone(),
                api::<Guarded<types::DaemonSet>>(client.clone(), namespace),
                owned.clone(),
                sender.clone(),
                operator.daemon_sets.clone(),
                observe::daemon_set,
                |operator, set| operator.resource(&set.owner).into_iter().collect(),
            ),
        ),
        supervise(
            operator,
            "pods",
            watch_into(
                operator.clone(),
                api::<Guarded<types::Pod>>(client.clone(), namespace),
                owned,
                sender.clone(),
                operator.pods.clone(),
                observe::pod,
                |operator, pod| operator.resource(&pod.resource).into_iter().collect(),
            ),
        ),
        supervise(
            operator,
            "nodes",
            watch_into(
                operator.clone(),
                Api::<Guarded<types::Node>>::all(client),
                config(),
                sender,
                operator.nodes.clone(),
                observe::node,
                |operator, _| all_resources(operator),
            ),
        ),
    ];
    let operator = operator.clone();
    let (gathered, queue) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut stop = std::pin::pin!(stop);
        loop {
            let first = tokio::select! {
                biased;
                () = &mut stop => break,
                request = requests.recv() => request,
            };
            let Some(first) = first else { break };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(operator.debounce.delay()) => {}
            }
            let mut all = HashSet::from([first]);
            while let Ok(request) = requests.try_recv() {
                all.insert(request);
            }
            for request in all {
                // Nobody listens only when the whole is being dropped.
                let _ = gathered.send(request);
            }
        }
        // The end of the queue makes the reconciler finish what it is at, and end.
        watches.iter().for_each(AbortHandle::abort);
    });
    stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|request| (Ok(request), queue)) })
}

/// Returns the configuration of all watches.
pub(super) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Runs a watch, which has no end but a failure of its own: then the operator must end too, as it would act
/// on an old picture for ever.
pub(super) fn supervise(
    operator: &Arc<Operator>,
    kind: &'static str,
    watch: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    let task = tokio::spawn(watch);
    let handle = task.abort_handle();
    let failed = operator.failed.clone();
    tokio::spawn(async move {
        let result = task.await;
        if result.as_ref().is_err_and(JoinError::is_cancelled) {
            return;
        }
        let why = result.err().map_or_else(|| "it ended".into(), |panic| one_line(&panic));
        tracing::error!(kind, "watch failed for good, the operator ends: {why}");
        failed.send_replace(Some(kind));
    });
    handle
}

fn api<K>(client: kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Watches the resources. A resource that cannot be read is kept as such.
async fn resources(
    operator: Arc<Operator>,
    api: Api<Guarded<types::Quinistry>>,
    writer: Writer<WatchedResource>,
    requests: Requests,
) {
    let events = events(api, config(), || operator.resources_synced.store(false, Ordering::Release));
    let watched = events.filter_map(async |event| {
        Some(Ok::<_, watcher::Error>(match event {
            Event::Apply(object) => Event::Apply(WatchedResource::new(object)?),
            Event::InitApply(object) => Event::InitApply(WatchedResource::new(object)?),
            Event::Delete(object) => Event::Delete(WatchedResource::new(object)?),
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
        }))
    });
    let mut seen = std::pin::pin!(reflector(writer, watched));
    // Generations of the specifications, by UID: others care for those, and not for every change of a status.
    let mut known = HashMap::new();
    while let Some(event) = seen.next().await {
        match event {
            Ok(Event::Apply(resource)) => {
                let identity = resource.identity();
                if known.insert(identity.uid.clone(), identity.generation) == Some(identity.generation) {
                    let _ = requests.send(ObjectRef::from_obj(&resource));
                    continue;
                }
                request_all(&operator);
            }
            Ok(Event::Delete(resource)) => {
                known.remove(&resource.identity().uid);
                request_all(&operator);
            }
            Ok(Event::InitDone) => {
                operator.resources_synced.store(true, Ordering::Release);
                request_all(&operator);
            }
            Ok(Event::Init | Event::InitApply(_)) | Err(_) => {}
        }
    }
}

/// Has all of them looked at: one may be waiting for another's ports, or have to give way.
pub(super) fn request_all(operator: &Operator) {
    for resource in all_resources(operator) {
        let _ = operator.requests.send(resource);
    }
}

fn all_resources(operator: &Operator) -> Vec<ObjectRef<WatchedResource>> {
    operator.resources.state().iter().map(|resource| ObjectRef::from_obj(&**resource)).collect()
}

/// Objects of another kind: into their cache, and on to those whom a change concerns.
pub(super) async fn watch_into<K, V: Cacheable>(
    operator: Arc<Operator>,
    api: Api<Guarded<K>>,
    config: watcher::Config,
    requests: Requests,
    cache: Arc<Cache<V>>,
    view: impl Fn(K) -> Option<(String, V)>,
    concerned: impl Fn(&Operator, &V) -> Vec<ObjectRef<WatchedResource>>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let keep = |object: Guarded<K>| {
        let key = key(object.meta());
        (key, object.readable().and_then(&view).map(|(_, value)| value))
    };
    let mut events = std::pin::pin!(events(api, config, || cache.mark_stale()));
    while let Some(event) = events.next().await {
        let whole = matches!(event, Event::InitDone);
        let changed = cache.handle(map(event, keep));
        // Whoever was to be looked at meanwhile was not: the picture was old.
        if whole {
            request_all(&operator);
            continue;
        }
        for resource in changed.iter().flat_map(|changed| concerned(&operator, changed)) {
            let _ = requests.send(resource);
        }
    }
}

/// Returns the key of an object in its cache.
fn key(metadata: &ObjectMeta) -> String {
    match metadata.namespace() {
        "" => metadata.name().into(),
        namespace => format!("{namespace}/{}", metadata.name()),
    }
}

fn map<K, V>(event: Event<K>, with: impl Fn(K) -> V) -> Event<V> {
    match event {
        Event::Apply(object) => Event::Apply(with(object)),
        Event::InitApply(object) => Event::InitApply(with(object)),
        Event::Delete(object) => Event::Delete(with(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// What there is of one kind. A watch that fails begins anew, later and later, with a list: watched on from where it was, it
/// would not tell when it has caught up. `lost` hears that from now on what was brought is old.
fn events<K>(api: Api<K>, config: watcher::Config, on_stale: impl Fn()) -> impl Stream<Item = Event<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let begin = move || Box::pin(watcher(api.clone(), config.clone()));
    let watch = (begin(), CappedBackoff::default(), begin, on_stale);
    stream::unfold(watch, async |(mut watching, mut pauses, begin, on_stale)| {
        loop {
            match watching.next().await? {
                Ok(event) => {
                    // A list is no watch yet: where one succeeds and the other fails, lists must not follow each other.
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        pauses.reset();
                    }
                    return Some((event, (watching, pauses, begin, on_stale)));
                }
                Err(error) => {
                    on_stale();
                    log_watch_error::<K>(&error);
                    tokio::time::sleep(pauses.next().unwrap_or(MAX_WATCH_PAUSE)).await;
                    watching = begin();
                }
            }
        }
    })
}

/// People should know.
fn log_watch_error<K: Resource>(error: &watcher::Error)
where
    K::DynamicType: Default,
{
    let kind = K::plural(&K::DynamicType::default()).into_owned();
    let missing = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            Category::of(error) == Category::NotFound
        }
        _ => false,
    };
    if missing {
        tracing::warn!(
            "the cluster does not know {kind} yet: quinistry crd | kubectl apply --server-side -f -"
        );
    } else {
        tracing::warn!("watching {kind} failed, and goes on soon: {}", one_line(error));
    }
}

// === impl Soon ===

impl Iterator for CappedBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(MAX_WATCH_PAUSE))
    }
}

impl Backoff for CappedBackoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;

    use super::{CappedBackoff, MAX_WATCH_PAUSE, supervise};
    use crate::operator::{Operator, OperatorError, Settings};

    #[tokio::test]
    async fn a_watch_that_panics_ends_the_operator() {
        // A port where no API server is: its watches try on and on.
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let operator = Operator::new(&config, Settings::default()).unwrap();
        let run = tokio::spawn(operator.clone().run(std::future::pending()));
        supervise(&operator, "shelves", async { panic!("the story of this test") });
        let error = run.await.unwrap().unwrap_err();
        assert!(matches!(error, OperatorError::Watch { kind: "shelves" }), "{error}");
    }

    #[test]
    fn a_watch_asks_again_later_but_soon() {
        let pauses: Vec<_> = CappedBackoff::default().take(20).collect();
        assert!(pauses[0] < MAX_WATCH_PAUSE && pauses[19] == MAX_WATCH_PAUSE, "{pauses:?}");
    }
}
