//! Waits for conditions, never for a span of time: watches objects, and polls everything else.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, WatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Interval between attempts where nothing can be watched.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until the selected objects satisfy a condition, and returns them.
pub async fn until_all<K>(
    api: &Api<K>,
    selection: &ListParams,
    deadline: Duration,
    what: &str,
    condition: impl Fn(&[K]) -> bool,
) -> Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut last = Vec::new();
    let polling = async {
        loop {
            let page = api.list(selection).await?;
            let version = page.metadata.resource_version.unwrap_or_default();
            last = page.items;
            if condition(&last) {
                return anyhow::Ok(());
            }
            let mut watch = WatchParams::default();
            watch.label_selector.clone_from(&selection.label_selector);
            watch.field_selector.clone_from(&selection.field_selector);
            // Whatever the watch returns, an expired one included, the next step is to list again.
            let _ = api.watch(&watch, &version).await?.boxed().try_next().await;
        }
    };
    let result = tokio::time::timeout(deadline, polling).await;
    let Ok(result) = result else {
        let names: Vec<_> = last.iter().map(ResourceExt::name_any).collect();
        return Err(anyhow!("not within {} s: {what}; there are {names:?}", deadline.as_secs()));
    };
    result.with_context(|| format!("while waiting until {what}"))?;
    Ok(last)
}

/// Waits until one object satisfies a condition, and returns it.
pub async fn until<K>(
    api: &Api<K>,
    name: &str,
    deadline: Duration,
    what: &str,
    condition: impl Fn(&K) -> bool,
) -> Result<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let selection = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = until_all(api, &selection, deadline, what, |all| all.first().is_some_and(&condition)).await?;
    found.into_iter().next().context("the condition holds for an object")
}

/// Waits until no object of a kind is left.
pub async fn until_none<K>(api: &Api<K>, selection: &ListParams, deadline: Duration, what: &str) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    until_all(api, selection, deadline, what, <[K]>::is_empty).await.map(drop)
}

/// Calls a function again and again until it succeeds.
pub async fn eventually<T, F>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let end = tokio::time::Instant::now() + deadline;
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    loop {
        ticks.tick().await;
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if tokio::time::Instant::now() > end => {
                return Err(error.context(format!("not within {} s: {what}", deadline.as_secs())));
            }
            Err(_) => {}
        }
    }
}
