//! The pieces of seeds: a watch of their metadata in each namespace with a seed, and a look at what they hold.
//!
//! What an immutable `ConfigMap` holds is fetched once for each UID, and only when this operator is the executable that
//! it is a piece of: nobody else knows what it should be. Used by the driver.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};

use super::cache::Cache;
use super::error::OperatorError;
use super::observed::{Own, Part};
use super::resource::Resource;
use super::{Operator, observe, watches};
use crate::api::locks::lock;
use crate::api::names::labels::{NAME, SEED};
use crate::api::types;
use crate::lenient::Guarded;
use crate::seed::SplitExecutable;

/// How long the first list of a watch may take, rights included.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Objects that a watch has brought, and the time at which the watch began or was last complete.
type Watch = (Arc<Cache<Part>>, Instant);

/// The pieces of all seeds, and this operator's own executable as one.
#[derive(Debug)]
pub(super) struct Pieces {
    own: Option<SplitExecutable>,
    hands_over: bool,
    /// Watches by namespace.
    watched: Mutex<HashMap<String, Watch>>,
    /// By UID: whether it holds what it should.
    sound: Mutex<BTreeMap<String, bool>>,
}

// === impl Pieces ===

impl Pieces {
    pub(super) fn new(own: Option<SplitExecutable>, hands_over: bool) -> Self {
        Self { own, hands_over, watched: Mutex::default(), sound: Mutex::default() }
    }

    /// This operator's executable as the seed of a resource.
    pub(super) fn cut(&self, quinistry: &Resource) -> Option<SplitExecutable> {
        self.own.as_ref().map(|own| own.of(quinistry.name()))
    }

    pub(super) fn own(&self) -> Own {
        let executable = self.own.as_ref().map(|own| (own.digest().clone(), own.share_count()));
        Own { executable, hands_over: self.hands_over }
    }

    /// Returns the pieces of a resource, older ones too; `None` while they are being listed, which the caller
    /// waits for elsewhere: a later plan should not rest on an earlier picture. The first call for a
    /// namespace begins to watch it.
    pub(super) fn of(
        &self,
        operator: &Arc<Operator>,
        quinistry: &Resource,
    ) -> Result<Option<Vec<Arc<Part>>>, OperatorError> {
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
            let late = since.elapsed() >= PATIENCE;
            return if late { Err(OperatorError::Pieces { namespace: namespace.into() }) } else { Ok(None) };
        }
        Ok(Some(cache.select(|part| part.resource == quinistry.name())))
    }

    /// Fetches those that have not been looked at, and returns the UIDs of all that hold something else than they should.
    pub(super) async fn altered(
        &self,
        client: &Client,
        quinistry: &Resource,
        parts: &[Arc<Part>],
    ) -> Result<BTreeSet<String>, OperatorError> {
        let Some(cut) = self.cut(quinistry) else { return Ok(BTreeSet::new()) };
        let mut altered = BTreeSet::new();
        for part in parts.iter().filter(|part| part.seed == cut.names().seed() && !part.deleting) {
            let known = self.sound().get(&part.uid).copied();
            let sound = match known {
                Some(sound) => sound,
                None => match is_sound(client, &cut, part).await? {
                    Some(sound) => sound,
                    None => continue,
                },
            };
            self.sound().insert(part.uid.clone(), sound);
            if !sound {
                altered.insert(part.uid.clone());
            }
        }
        Ok(altered)
    }

    /// Forgets what is no more.
    pub(super) fn forget(&self) {
        let mut sound = self.sound();
        if sound.is_empty() {
            return;
        }
        let watched = lock(&self.watched);
        let parts = watched.values().flat_map(|(cache, _)| cache.select(|_| true));
        let alive: BTreeSet<String> = parts.map(|part| part.uid.clone()).collect();
        sound.retain(|uid, _| alive.contains(uid));
    }

    fn sound(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, bool>> {
        lock(&self.sound)
    }
}

fn watch(operator: &Arc<Operator>, namespace: &str) -> Arc<Cache<Part>> {
    let cache = Arc::new(Cache::new());
    let api: Api<Guarded<PartialObjectMeta<ConfigMap>>> = Api::namespaced(operator.client.clone(), namespace);
    watches::supervise(
        operator,
        "configmaps",
        watches::follow(
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

/// Whether a piece holds what this executable does; nothing if it is gone.
async fn is_sound(
    client: &Client,
    cut: &SplitExecutable,
    part: &Part,
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
    // One that somebody could still change would be watched by every kubelet.
    let whole = found.binary_data.len() == 1 && found.immutable;
    Ok(Some(whole && found.binary_data.get(which.key()).is_some_and(|data| data.0 == expected)))
}
