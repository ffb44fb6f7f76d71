//! The operator: raises generations of quinistry on the nodes of a cluster.
//!
//! A pipeline runs for one resource at a time whenever something about it changes: `observe` → `plan` →
//! `build` → `apply` → `verify` → `report`. `plan` and `build` are pure; the other steps take a client. The
//! operator remembers nothing that it could not observe again, so that it may be restarted at any moment;
//! status is written, and is never an input to a plan.
//!
//! This module is the driver: the operator's parts, its watches, its queue and its end; `reconcile` has the
//! order of the steps. The command line handles signals and sockets.

mod admin;
mod apply;
mod build;
mod bundles;
mod cache;
mod claims;
mod connection;
mod deadline;
mod debounce;
mod error;
mod events;
pub mod generation_zero;
mod history;
mod leader;
mod metrics;
pub mod naming;
mod observe;
mod observed;
mod obstacle;
mod plan;
mod reconcile;
mod report;
mod resource;
mod rival;
mod seed_parts;
mod select;
mod store;
mod verify;
mod watches;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use kube::runtime::controller;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Config};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::api::kubeconfig;
use crate::api::locks::lock;
use crate::api::names::managers;
use crate::seed::SplitExecutable;

pub use admin::router;
pub(crate) use bundles::held_bundles;
pub use error::{Category, OperatorError};

use bundles::Bundles;
use cache::Cache;
use claims::Claims;
use debounce::Debounce;
use history::Histories;
use leader::{Election, Leadership};
use metrics::Metrics;
use observed::{ObservedDaemonSet, ObservedNode, ObservedPod};
use resource::WatchedResource;
use seed_parts::SeedParts;
use store::Stores;
use verify::Verifier;
use watches::Requests;

/// Number of resources that are reconciled at once.
const MAX_CONCURRENT_RECONCILES: u16 = 8;

/// Settings of an operator.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Namespace whose resources the operator looks after; all namespaces if `None`.
    pub namespace: Option<String>,
    /// Name of the Lease, in the namespace of the client, by which several operators elect one. Without it
    /// the operator is the only one.
    pub lease: Option<String>,
    /// Executable of the operator, from which it can restore seed parts.
    pub own: Option<SplitExecutable>,
    /// Leaves generations on a seed of another executable to the operator with that executable.
    pub hand_over: bool,
}

/// The operator of one cluster.
pub struct Operator {
    client: Client,
    namespace: Option<String>,
    leadership: Arc<Leadership>,
    claims: Claims,
    recorder: Recorder,
    resources: Store<WatchedResource>,
    resources_synced: AtomicBool,
    /// Sender of resources to reconcile.
    requests: Requests,
    inbox: Mutex<Option<RunInputs>>,
    daemon_sets: Arc<Cache<ObservedDaemonSet>>,
    pods: Arc<Cache<ObservedPod>>,
    nodes: Arc<Cache<ObservedNode>>,
    bundles: Bundles,
    seed_parts: SeedParts,
    stores: Stores,
    verifier: Arc<Verifier>,
    metrics: Arc<Metrics>,
    histories: Histories,
    debounce: Debounce,
    /// Kind of the watch that has failed for good.
    failed: watch::Sender<Option<&'static str>>,
}

/// State that the single run takes.
struct RunInputs {
    writer: Writer<WatchedResource>,
    requests: UnboundedReceiver<ObjectRef<WatchedResource>>,
    election: Option<Election>,
}

// Clients and recorders have no `Debug` output.
impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

// === impl Operator ===

impl Operator {
    /// Creates an operator for the cluster that the environment names: by a kubeconfig, or by a pod's own
    /// credentials.
    pub async fn from_environment(settings: Settings) -> Result<Arc<Self>, OperatorError> {
        let config = kubeconfig::infer().await.map_err(OperatorError::Cluster)?;
        Self::new(&config, settings)
    }

    /// Creates an operator for a cluster.
    pub fn new(config: &Config, settings: Settings) -> Result<Arc<Self>, OperatorError> {
        let name = naming::instance_name();
        let lease = settings.lease.clone();
        let (leadership, election) = match settings.lease {
            None => (Arc::new(Leadership::sole()), None),
            Some(lease) => {
                let leadership = Arc::new(Leadership::elected());
                let client = connection::client(config, Arc::new(Leadership::sole()))?;
                let election = Election::new(client, lease, name.clone(), leadership.clone());
                (leadership, Some(election))
            }
        };
        let client = connection::client(config, leadership.clone())?;
        let (resources, writer) = kube::runtime::reflector::store();
        // Unbounded but short: the queue empties it every few milliseconds, independent of the reconciler.
        let (sender, requests) = unbounded_channel();
        let reporter = Reporter { controller: managers::OPERATOR.into(), instance: Some(name) };
        Ok(Arc::new(Self {
            claims: Claims::new(client.clone(), lease.as_deref()),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace: settings.namespace,
            leadership,
            resources,
            resources_synced: AtomicBool::new(false),
            requests: sender,
            inbox: Mutex::new(Some(RunInputs { writer, requests, election })),
            daemon_sets: Arc::new(Cache::new()),
            pods: Arc::new(Cache::new()),
            nodes: Arc::new(Cache::new()),
            bundles: Bundles::new()?,
            seed_parts: SeedParts::new(settings.own, settings.hand_over),
            stores: Stores::default(),
            verifier: Arc::new(Verifier::new()?),
            metrics: Arc::default(),
            histories: Histories::default(),
            debounce: Debounce::default(),
            failed: watch::Sender::new(None),
        }))
    }

    /// Runs until `stop` resolves, and finishes its current work. Fails when another operator has taken over,
    /// since the caches may be outdated: a new operator should start in its place. Fails also when a watch
    /// fails for good. To be called once.
    pub async fn run(
        self: Arc<Self>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), OperatorError> {
        let Some(RunInputs { writer, requests, election }) = lock(&self.inbox).take() else {
            return Ok(());
        };
        let queue = watches::queue(&self, writer, requests, stop);
        let config = controller::Config::default().concurrency(MAX_CONCURRENT_RECONCILES);
        let reconciler = controller::applier(
            |resource, operator: Arc<Self>| Box::pin(async move { operator.reconcile(&resource).await }),
            |resource, error, operator| operator.retry_after(resource.identity(), error),
            self.clone(),
            self.resources.clone(),
            queue,
            config,
        )
        .for_each(|result| async {
            match result {
                // Logged by the error policy, or deleted since the event.
                Ok(_)
                | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::error!(%error, "reconcile queue failed"),
            }
        });
        let mut failed = self.failed.subscribe();
        let failed = async {
            let kind = failed.wait_for(Option::is_some).await.ok().and_then(|kind| *kind);
            OperatorError::Watch { kind: kind.unwrap_or_default() }
        };
        let Some(mut election) = election else {
            tokio::select! {
                () = reconciler => {}
                error = failed => return Err(error),
                () = Claims::run(self.clone()) => {}
                () = Bundles::run(self.clone()) => {}
            }
            self.claims.release().await;
            return Ok(());
        };
        tokio::select! {
            () = reconciler => {}
            error = failed => return Err(error),
            () = Claims::run(self.clone()) => {}
            () = Bundles::run(self.clone()) => {}
            holder = election.run(|| watches::request_all(&self)) => return Err(OperatorError::LostLeadership { holder }),
        }
        election.release().await;
        Ok(())
    }

    /// Returns true if the caches are complete and current: all watches have brought their lists, and none
    /// has failed since.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let resources = self.resources_synced.load(Ordering::Acquire);
        resources && self.daemon_sets.is_synced() && self.pods.is_synced() && self.nodes.is_synced()
    }

    /// Renders the metrics. Only the leader shows resources, or they would be counted twice.
    fn metrics(&self) -> String {
        self.metrics.render(self.leadership.holds())
    }

    /// Returns the resource with this UID.
    fn resource(&self, uid: &str) -> Option<ObjectRef<WatchedResource>> {
        self.resources
            .find(|resource| resource.identity().uid == uid)
            .map(|resource| ObjectRef::from_obj(&*resource))
    }
}
