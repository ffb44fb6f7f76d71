//! Watches of bundles and of the `ConfigMaps` of names: one each for the whole operator.
//!
//! Unlike the other watches they may fail for as long as they like. An older installation has no definition
//! of bundles, or gives the operator no right to them: that is logged once, and everything else goes on.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::lenient::Guarded;
use crate::one_line::one_line;
use crate::operator::cache::{Cache, Cacheable};
use crate::operator::error::Category;
use crate::operator::watches;

/// Pause before a watch that failed is restarted.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Pause before a list is tried again that needs a definition or a right.
const MISSING_PAUSE: Duration = Duration::from_mins(1);

/// Kind of the failure of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The API server does not know the kind, or does not let the operator list it.
    Missing,
    /// Anything else.
    Passing,
}

/// Watches objects into a cache until dropped, and calls `on_change` when any has changed. Keys of the cache
/// are namespace and name.
pub(super) async fn watch_into<K, V: Cacheable>(
    api: Api<Guarded<K>>,
    config: watcher::Config,
    cache: Arc<Cache<V>>,
    view: impl Fn(Guarded<K>) -> Option<(String, V)>,
    on_change: impl Fn(),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let keep = |object: Guarded<K>| {
        let key = watches::key(object.meta());
        (key, view(object).map(|(_, value)| value))
    };
    let kind = K::plural(&K::DynamicType::default()).into_owned();
    let mut logged = None;
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    cache.mark_stale();
                    let failure = failure(&error);
                    if logged != Some(failure) {
                        log(&kind, failure, &error);
                    }
                    logged = Some(failure);
                    tokio::time::sleep(match failure {
                        Failure::Missing => MISSING_PAUSE,
                        Failure::Passing => RETRY_PAUSE,
                    })
                    .await;
                    break;
                }
            };
            let is_whole = matches!(event, Event::InitDone);
            if is_whole && logged.take().is_some() {
                tracing::info!(kind, "watch works again");
            }
            if !cache.handle(watches::map(event, keep)).is_empty() || is_whole {
                on_change();
            }
        }
    }
}

fn failure(error: &watcher::Error) -> Failure {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)
            if matches!(Category::of(error), Category::NotFound | Category::Forbidden) =>
        {
            Failure::Missing
        }
        _ => Failure::Passing,
    }
}

fn log(kind: &str, failure: Failure, error: &watcher::Error) {
    let error = one_line(error);
    match failure {
        Failure::Missing => tracing::warn!(
            kind,
            error,
            "cannot list, bundles are not served; install the definitions (quinistry crd) and the operator's rights of \
             this version (chart value store.enabled)"
        ),
        Failure::Passing => tracing::warn!(kind, error, "watch failed, retrying"),
    }
}
