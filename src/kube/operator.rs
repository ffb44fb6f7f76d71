//! The operator: raises generations of quinistry on the nodes of a cluster.
//!
//! A pipeline, run for one resource at a time whenever something about it changes: `observe` → `plan` → `build` →
//! `apply` → `verify` → `report`. `plan` and `build` are pure; the rest takes a client. Nothing is remembered that
//! could not be seen again, so that it may be restarted at any moment; status is written, and never an input to a
//! plan.
//!
//! This module is the driver: what an operator is made of, its watches, its queue, and its end; `reconcile` has the order
//! of the steps. It does not listen to signals or on sockets; the command line does.

mod admin;
mod apply;
mod build;
mod cache;
mod claims;
mod connection;
mod deadline;
mod error;
mod events;
pub mod identity;
mod leader;
mod memory;
mod metrics;
mod observe;
mod observed;
mod obstacle;
mod pace;
mod pieces;
mod plan;
mod reconcile;
mod report;
mod resource;
mod rival;
mod select;
mod verify;
mod watches;
pub mod zero;

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
pub use error::{Category, OperatorError};

use cache::Cache;
use claims::Claims;
use leader::{Election, Leadership};
use memory::Memories;
use metrics::Metrics;
use observed::{DaemonSet, Node, Pod};
use pace::Pace;
use pieces::Pieces;
use resource::Watched;
use verify::Eyes;
use watches::Requests;

/// How many resources are worked on at once.
const CONCURRENCY: u16 = 8;

/// What an operator is told from outside.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The only namespace that is looked after; all, if none.
    pub namespace: Option<String>,
    /// Name of the Lease, in the namespace that the client works in, by which several operators elect one. Without it
    /// this one takes itself for the only one.
    pub lease: Option<String>,
    /// This operator's own executable, of which it can restore the pieces.
    pub own: Option<SplitExecutable>,
    /// What stands on a seed of another executable is left to the operator that is that one.
    pub hand_over: bool,
}

/// The operator of one cluster.
pub struct Operator {
    client: Client,
    namespace: Option<String>,
    leadership: Arc<Leadership>,
    claims: Claims,
    recorder: Recorder,
    resources: Store<Watched>,
    resources_synced: AtomicBool,
    /// Resources to look at.
    requests: Requests,
    inbox: Mutex<Option<Inbox>>,
    daemon_sets: Arc<Cache<DaemonSet>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    pieces: Pieces,
    eyes: Arc<Eyes>,
    metrics: Arc<Metrics>,
    memories: Memories,
    pace: Pace,
    /// The kind whose watch has failed for good.
    failed: watch::Sender<Option<&'static str>>,
}

/// What only the one run needs.
struct Inbox {
    writer: Writer<Watched>,
    requests: UnboundedReceiver<ObjectRef<Watched>>,
    election: Option<Election>,
}

// Neither a client nor a recorder says anything of itself.
impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

// === impl Operator ===

impl Operator {
    /// For the cluster that the environment names: a kubeconfig, or a pod's own credentials.
    pub async fn from_environment(settings: Settings) -> Result<Arc<Self>, OperatorError> {
        let config = kubeconfig::infer().await.map_err(OperatorError::Cluster)?;
        Self::new(&config, settings)
    }

    /// For a given cluster.
    pub fn new(config: &Config, settings: Settings) -> Result<Arc<Self>, OperatorError> {
        let name = identity::own();
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
        // Unbounded, but short: it is emptied every few milliseconds, whatever the reconciler does.
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
            inbox: Mutex::new(Some(Inbox { writer, requests, election })),
            daemon_sets: Arc::new(Cache::new()),
            pods: Arc::new(Cache::new()),
            nodes: Arc::new(Cache::new()),
            pieces: Pieces::new(settings.own, settings.hand_over),
            eyes: Arc::new(Eyes::new()?),
            metrics: Arc::default(),
            memories: Memories::default(),
            pace: Pace::default(),
            failed: watch::Sender::new(None),
        }))
    }

    /// Runs until `stop` resolves; then finishes what it is at. Fails when another operator has taken over:
    /// what this one knows may be from before, so a new one should begin in its place; and when a watch fails
    /// for good. To be called once.
    pub async fn run(
        self: Arc<Self>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), OperatorError> {
        let Some(Inbox { writer, requests, election }) = lock(&self.inbox).take() else {
            return Ok(());
        };
        let queue = watches::queue(&self, writer, requests, stop);
        let config = controller::Config::default().concurrency(CONCURRENCY);
        let reconciler = controller::applier(
            |resource, operator: Arc<Self>| Box::pin(async move { operator.reconcile(&resource).await }),
            |resource, error, operator| operator.after(resource.identity(), error),
            self.clone(),
            self.resources.clone(),
            queue,
            config,
        )
        .for_each(|result| async {
            match result {
                // Told by the error policy, or gone between the event and now.
                Ok(_)
                | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::error!(%error, "the queue failed"),
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
            }
            self.claims.release().await;
            return Ok(());
        };
        tokio::select! {
            () = reconciler => {}
            error = failed => return Err(error),
            () = Claims::run(self.clone()) => {}
            holder = election.run(|| watches::request_all(&self)) => return Err(OperatorError::Followed { holder }),
        }
        election.release().await;
        Ok(())
    }

    /// Whether the picture is whole and new: all watches have brought their lists, and none has failed since.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let resources = self.resources_synced.load(Ordering::Acquire);
        resources && self.daemon_sets.is_synced() && self.pods.is_synced() && self.nodes.is_synced()
    }

    /// What is counted. What is known of resources is the leader's to tell, or it would be told twice.
    fn metrics(&self) -> String {
        self.metrics.render(self.leadership.holds())
    }

    /// The resource of an object, by UID.
    fn resource(&self, uid: &str) -> Option<ObjectRef<Watched>> {
        self.resources
            .find(|resource| resource.identity().uid == uid)
            .map(|resource| ObjectRef::from_obj(&*resource))
    }
}
