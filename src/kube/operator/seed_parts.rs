//! Seed parts: a watch of their metadata in each namespace with a seed, and the verification of their
//! content.
//!
//! The content of an immutable `ConfigMap` is fetched once for each UID, and only if this operator has the
//! same executable: no other operator knows the right content. Used by the driver.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};

use super::cache::Cache;
use super::error::OperatorError;
use super::observed::{ObservedPart, OwnExecutable};
use super::resource::ValidResource;
use super::{Operator, observe, watches};
use crate::api::locks::lock;
use crate::api::names::labels::{NAME, SEED};
use crate::api::types;
use crate::lenient::Guarded;
use crate::seed::SplitExecutable;
use crate::sorted::Sorted as _;

/// Time limit of a watch's first list; missing permissions show as a timeout.
pub(super) const FIRST_LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Cache of a namespace, and the time at which its watch started or was last complete.
type NamespaceWatch = (Arc<Cache<ObservedPart>>, Instant);

/// Parts of all seeds, and this operator's own executable.
#[derive(Debug)]
pub(super) struct SeedParts {
    own: Option<SplitExecutable>,
    hands_over: bool,
    /// Watches of seed parts by namespace.
    watched: Mutex<HashMap<String, NamespaceWatch>>,
    /// Result of the verification by UID: true if the part holds the right content.
    verified: Mutex<BTreeMap<String, bool>>,
}

// === impl SeedParts ===

impl SeedParts {
    pub(super) fn new(own: Option<SplitExecutable>, hands_over: bool) -> Self {
        Self { own, hands_over, watched: Mutex::default(), verified: Mutex::default() }
    }

    /// Returns this operator's executable as the seed of a resource.
    pub(super) fn own_seed(&self, quinistry: &ValidResource) -> Option<SplitExecutable> {
        self.own.as_ref().map(|own| own.of(quinistry.name()))
    }

    pub(super) fn own_executable(&self) -> OwnExecutable {
        let executable = self.own.as_ref().map(|own| (own.digest().clone(), own.share_count()));
        OwnExecutable { executable, hands_over: self.hands_over }
    }

    /// Returns the parts of a resource, older ones included; `None` while they are being listed. The caller
    /// then plans later, as a plan needs the present state. The first call for a namespace starts its watch.
    pub(super) fn list(
        &self,
        operator: &Arc<Operator>,
        quinistry: &ValidResource,
    ) -> Result<Option<Vec<Arc<ObservedPart>>>, OperatorError> {
        let namespace = quinistry.namespace();
        let (cache, since) = {
            let mut watched = lock(&self.watched);
            let begin = || (watch(operator, namespace), Instant::now());
            let (cache, since) = watched.entry(namespace.into()).or_insert_with(begin);
            if cache.is_synced() {
                *since = Instant::now();
            }
            (cache.clone(), *since)
        };
        if !cache.is_synced() {
            let late = since.elapsed() >= FIRST_LIST_TIMEOUT;
            return if late {
                Err(OperatorError::SeedParts { namespace: namespace.into() })
            } else {
                Ok(None)
            };
        }
        Ok(Some(cache.select(|part| part.resource == quinistry.name())))
    }

    /// Fetches the parts that were not verified yet, and returns the UIDs of all altered ones.
    pub(super) async fn altered(
        &self,
        client: &Client,
        quinistry: &ValidResource,
        parts: &[Arc<ObservedPart>],
    ) -> Result<BTreeSet<String>, OperatorError> {
        let Some(cut) = self.own_seed(quinistry) else { return Ok(BTreeSet::new()) };
        let mut altered = BTreeSet::new();
        for part in parts.iter().filter(|part| part.seed == cut.names().seed() && !part.deleting) {
            let known = self.verified().get(&part.uid).copied();
            let sound = match known {
                Some(sound) => sound,
                None => match is_sound(client, &cut, part).await? {
                    Some(sound) => sound,
                    None => continue,
                },
            };
            self.verified().insert(part.uid.clone(), sound);
            if !sound {
                altered.insert(part.uid.clone());
            }
        }
        Ok(altered)
    }

    /// Removes results of parts that no longer exist.
    pub(super) fn prune(&self) {
        let mut sound = self.verified();
        if sound.is_empty() {
            return;
        }
        let watched = lock(&self.watched);
        let parts = watched.values().flat_map(|(cache, _)| cache.select(|_| true));
        let alive = parts.map(|part| part.uid.clone()).into_set();
        sound.retain(|uid, _| alive.contains(uid));
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, bool>> {
        lock(&self.verified)
    }
}

fn watch(operator: &Arc<Operator>, namespace: &str) -> Arc<Cache<ObservedPart>> {
    let cache = Arc::new(Cache::new());
    let api: Api<Guarded<PartialObjectMeta<ConfigMap>>> = Api::namespaced(operator.client.clone(), namespace);
    watches::supervise(
        operator,
        "configmaps",
        watches::watch_into(
            operator.clone(),
            api,
            watches::config().labels(&format!("{SEED},{NAME}")),
            operator.requests.clone(),
            cache.clone(),
            observe::part,
            |_, part| vec![ObjectRef::new(&part.resource).within(&part.namespace)],
        ),
    );
    cache
}

/// Returns true if a part holds the content that this executable has; `None` if the part is gone.
async fn is_sound(
    client: &Client,
    cut: &SplitExecutable,
    part: &ObservedPart,
) -> Result<Option<bool>, OperatorError> {
    let maps: Api<Guarded<types::ConfigMap>> = Api::namespaced(client.clone(), &part.namespace);
    let found = maps.get_opt(&part.name).await.map_err(|error| OperatorError::Observe(Box::new(error)))?;
    let Some(found) =
        found.and_then(Guarded::readable).filter(|found| found.metadata.uid.as_ref() == Some(&part.uid))
    else {
        return Ok(None);
    };
    let Some(which) = cut.parts().find(|which| cut.names().of(*which) == part.name) else {
        return Ok(Some(false));
    };
    let expected = cut.bytes(which).map_err(OperatorError::Executable)?;
    // A mutable `ConfigMap` counts as altered: every kubelet would watch it.
    let whole = found.binary_data.len() == 1 && found.immutable;
    Ok(Some(whole && found.binary_data.get(which.key()).is_some_and(|data| data.0 == expected)))
}
