//! Watches: their objects go into the caches, and the affected resources into the queue.
//!
//! Requests are gathered for a short delay before they are queued (see `debounce`). The delay starts with the
//! first request: a cluster that never stops changing must not postpone the work forever.

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

/// Longest pause before a failed watch is restarted, and with it all work of the operator. kube's own is six
/// times as long.
const MAX_WATCH_PAUSE: Duration = Duration::from_secs(5);

/// Time in seconds after which a watch is ended and continued from where it was. A watch that is silent for
/// five seconds longer hangs, for example behind a proxy that has forgotten it, and is restarted; so no
/// object is outdated for longer without a message.
const WATCH_SECONDS: u32 = 40;

/// kube's backoff, limited to [`MAX_WATCH_PAUSE`].
#[derive(Default)]
struct CappedBackoff(DefaultBackoff);

/// Sender of the resources to reconcile.
pub(super) type Requests = mpsc::UnboundedSender<ObjectRef<WatchedResource>>;

/// Starts the watches, and yields the resources to reconcile until `stop` resolves.
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
                // The receiver is closed only when the whole operator is dropped.
                let _ = gathered.send(request);
            }
        }
        // The end of the queue lets the reconciler finish its current work, and end.
        watches.iter().for_each(AbortHandle::abort);
    });
    stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|request| (Ok(request), queue)) })
}

/// Returns the configuration of all watches.
pub(super) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Runs a watch, which ends only by a failure of its own: then the operator must end too, since it would act
/// on outdated objects forever.
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
        let error = result.err().map_or_else(|| "it ended".into(), |panic| one_line(&panic));
        tracing::error!(kind, error, "watch failed for good, ending the operator");
        failed.send_replace(Some(kind));
    });
    handle
}

/// Returns the API of a kind in one namespace, or in all.
pub(super) fn api<K>(client: kube::Client, namespace: Option<&str>) -> Api<K>
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
    // Generations of the specifications, by UID: other resources depend on a specification, not on every
    // change of a status.
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

/// Requests all resources: one may be waiting for another's ports, or have to give them up.
pub(super) fn request_all(operator: &Operator) {
    for resource in all_resources(operator) {
        let _ = operator.requests.send(resource);
    }
    operator.bundles.wake();
}

fn all_resources(operator: &Operator) -> Vec<ObjectRef<WatchedResource>> {
    operator.resources.state().iter().map(|resource| ObjectRef::from_obj(&**resource)).collect()
}

/// Watches objects of another kind: fills their cache, and requests the resources that a change affects.
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
        // Requests were ignored while the cache was outdated, so all resources are requested.
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
pub(super) fn key(metadata: &ObjectMeta) -> String {
    match metadata.namespace() {
        "" => metadata.name().into(),
        namespace => format!("{namespace}/{}", metadata.name()),
    }
}

/// Returns an event about what is made of its objects.
pub(super) fn map<K, V>(event: Event<K>, with: impl Fn(K) -> V) -> Event<V> {
    match event {
        Event::Apply(object) => Event::Apply(with(object)),
        Event::InitApply(object) => Event::InitApply(with(object)),
        Event::Delete(object) => Event::Delete(with(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// Yields the events of one kind. A watch that fails starts again with a list, after growing pauses:
/// continued from where it was, it would not tell when it has caught up. `on_stale` is called when the
/// objects may be outdated from now on.
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
                    // A successful list does not reset the pauses: if watches fail, lists must not follow
                    // each other without a pause.
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

/// Logs the failure of a watch, with advice if the kind is unknown.
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
            kind,
            "kind not found, install its definition: quinistry crd | kubectl apply --server-side -f -"
        );
    } else {
        tracing::warn!(kind, error = one_line(error), "watch failed, retrying");
    }
}

// === impl CappedBackoff ===

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
        // No API server listens on this port: the watches retry forever.
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
