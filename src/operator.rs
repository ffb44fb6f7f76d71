//! The operator: raises generations of quinistry on the nodes of a cluster.
//!
//! A pipeline, run for one resource at a time whenever something about it changes: `observe` → `plan` → `build` →
//! `apply` → `verify` → `report`. `plan` and `build` are pure; the rest takes a client. Nothing is remembered that
//! could not be seen again, so that it may be restarted at any moment; status is written and never an input.
//!
//! This module is the driver: watches, queue, order of the steps, and what to do when one fails. It does not listen to
//! signals or on sockets; the command line does.

mod admin;
mod apply;
mod build;
mod cache;
mod connection;
mod error;
mod events;
mod identity;
mod leader;
mod memory;
mod metrics;
mod observe;
mod observed;
mod pace;
mod pieces;
mod plan;
mod report;
mod select;
mod verify;
mod watches;
mod wire;
pub mod zero;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{self, Action as Next};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Config, ResourceExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::crd::{GenerationState, Quinistry};
use crate::seed::Cut;

pub use admin::router;
pub use error::{Category, OperatorError};

use apply::{Applied, apply};
use cache::Cache;
use error::one_line;
use leader::{Election, Leadership};
use memory::Memories;
use metrics::{Look, Metrics, Write};
use observed::{DaemonSet, Fetched, Node, Observed, Pod, Refusal, Rejection};
use pace::Pace;
use pieces::Pieces;
use plan::{Action, Plan};
use verify::Eyes;
use watches::Requests;

/// How many resources are worked on at once.
const CONCURRENCY: u16 = 8;

/// When to look again although nothing changed: watches may lose something.
const SAFETY_NET: Duration = Duration::from_mins(5);

/// When to look again while something is awaited that no watch tells of.
const WAITING: Duration = Duration::from_secs(5);

/// How often status tells that a generation has got further, when nothing else is new.
const PROGRESS: Duration = Duration::from_secs(1);

/// What an operator is told from outside.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The only namespace that is looked after; all, if none.
    pub namespace: Option<String>,
    /// Name of the Lease, in the namespace that the client works in, by which several operators elect one. Without it
    /// this one takes itself for the only one.
    pub lease: Option<String>,
    /// This operator's own executable, of which it can restore the pieces.
    pub own: Option<Cut>,
    /// What stands on a seed of another executable is left to the operator that is that one.
    pub hand_over: bool,
}

/// The operator of one cluster.
pub struct Operator {
    client: Client,
    namespace: Option<String>,
    leadership: Arc<Leadership>,
    recorder: Recorder,
    resources: Store<Quinistry>,
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
}

/// What only the one run needs.
struct Inbox {
    writer: Writer<Quinistry>,
    requests: UnboundedReceiver<ObjectRef<Quinistry>>,
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
        let config = Config::infer().await.map_err(|error| OperatorError::Cluster(error.to_string()))?;
        Self::new(&config, settings)
    }

    /// For a given cluster.
    pub fn new(config: &Config, settings: Settings) -> Result<Arc<Self>, OperatorError> {
        let name = identity::own();
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
        let reporter = Reporter { controller: identity::MANAGER.into(), instance: Some(name) };
        Ok(Arc::new(Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace: settings.namespace,
            leadership,
            resources,
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
        }))
    }

    /// Runs until `stop` resolves; then finishes what it is at. Fails when another operator has taken over: what this one
    /// knows may be from before, so a new one should begin in its place. To be called once.
    pub async fn run(
        self: Arc<Self>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), OperatorError> {
        let Some(Inbox { writer, requests, election }) =
            self.inbox.lock().expect("nothing panics while it is held").take()
        else {
            return Ok(());
        };
        let queue = watches::queue(&self, writer, requests, stop);
        let config = controller::Config::default().concurrency(CONCURRENCY);
        let reconciler = controller::applier(
            |quinistry, operator: Arc<Self>| Box::pin(async move { operator.reconcile(&quinistry).await }),
            |quinistry, error, operator| operator.after(&quinistry, error),
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
        let Some(mut election) = election else {
            reconciler.await;
            return Ok(());
        };
        tokio::select! {
            () = reconciler => {}
            holder = election.run(|| watches::request_all(&self)) => return Err(OperatorError::Followed { holder }),
        }
        election.release().await;
        Ok(())
    }

    /// Whether all watches have brought their first list.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        use futures_util::FutureExt as _;
        let resources = self.resources.wait_until_ready().now_or_never().is_some();
        resources && self.daemon_sets.is_synced() && self.pods.is_synced() && self.nodes.is_synced()
    }

    /// What is counted. What is known of resources is the leader's to tell, or it would be told twice.
    fn metrics(&self) -> String {
        self.metrics.render(self.leadership.holds())
    }

    async fn reconcile(self: &Arc<Self>, quinistry: &Quinistry) -> Result<Next, OperatorError> {
        // Whoever comes to lead is asked to look at all of them.
        if !self.leadership.holds() {
            return Ok(Next::await_change());
        }
        let started = Instant::now();
        let result = self.steps(quinistry).await;
        self.metrics.reconciled(started.elapsed(), result.as_ref().err().map(OperatorError::category));
        if result.is_ok() {
            self.memories.succeeded(quinistry);
        }
        result
    }

    async fn steps(self: &Arc<Self>, quinistry: &Quinistry) -> Result<Next, OperatorError> {
        // Acting on half of the picture would create what is there already.
        tokio::join!(self.daemon_sets.synced(), self.pods.synced(), self.nodes.synced());

        // observe (client required for seeds alone), plan and build (pure)
        let mut observed = self.observe(quinistry);
        if quinistry.spec.seed.is_some() || observed.daemon_set(0).is_some() {
            observed.parts = self.pieces.of(self, quinistry).await?;
            observed.altered = self.pieces.altered(&self.client, quinistry, &observed.parts).await?;
        }
        let begun = Instant::now();
        let mut plan = plan_with_carriers(&self.client, quinistry, &mut observed).await?;
        self.pace.planned(begun.elapsed());
        if plan.gone {
            return Ok(Next::await_change());
        }
        // observe (client required)
        let mut asked_again = None;
        if !plan.missing.is_empty() {
            (observed.refusals, asked_again) = self.refusals(quinistry, &plan, &observed).await?;
            plan = plan::plan(quinistry, &observed, Timestamp::now());
        }
        // verify (client required), and plan with what was seen
        if self.verify(quinistry, &plan).await {
            observed.fetched = self.eyes.found(observed.pods.iter().map(|pod| &pod.start));
            plan = plan::plan(quinistry, &observed, Timestamp::now());
        }
        // apply (client required)
        let failure = self.apply(quinistry, &plan).await;
        if let Some(rejection) = self.memories.rejection(quinistry, SAFETY_NET) {
            observed.rejection = Some(rejection);
            plan = plan::plan(quinistry, &observed, Timestamp::now());
        }
        // Just started, it has yet to look at what may stand there for long: that is no reason to take Ready away.
        // Whoever answers late, or not at all, makes this run again.
        if plan.looking && !self.memories.has_reported(quinistry) {
            failure?;
            return Ok(Next::requeue(WAITING));
        }
        // report (client required): also after a failure, so that what is known is known to people
        let later = self.report(quinistry, &plan, failure.is_ok()).await?;
        failure?;
        self.forget();
        let again = if plan.waiting { WAITING } else { jittered(SAFETY_NET, quinistry) };
        let again = [later, asked_again].into_iter().flatten().fold(again, Duration::min);
        Ok(Next::requeue(again.min(self.eyes.next(&plan.verify).unwrap_or(again))))
    }

    fn observe(&self, quinistry: &Quinistry) -> Observed {
        let uid = quinistry.uid().unwrap_or_default();
        let pods = self.pods.select(|pod| pod.resource == uid);
        Observed {
            nodes: self.nodes.select(|_| true),
            daemon_sets: self.daemon_sets.select(|set| set.owner == uid),
            fetched: self.eyes.found(pods.iter().map(|pod| &pod.start)),
            pods,
            rivals: self.resources.state(),
            refusals: Vec::new(),
            rejection: self.memories.rejection(quinistry, SAFETY_NET),
            own: self.pieces.own(),
            ..Observed::default()
        }
    }

    /// Why pods are missing; and when to ask again, if that was asked a moment ago: for thousands of nodes the controller makes
    /// pods for minutes, and each of them is a reason to plan anew.
    async fn refusals(
        &self,
        quinistry: &Quinistry,
        plan: &Plan,
        observed: &Observed,
    ) -> Result<(Vec<Refusal>, Option<Duration>), OperatorError> {
        if let Some((known, left)) = self.memories.refused(quinistry, &plan.missing, WAITING) {
            return Ok((known, Some(left)));
        }
        let missing = plan.missing.iter().copied();
        let found = observe::refusals(&self.client, quinistry, missing, &observed.daemon_sets).await?;
        self.memories.refuse(quinistry, plan.missing.clone(), found.clone());
        Ok((found, None))
    }

    /// Whether anything was looked at.
    async fn verify(&self, quinistry: &Quinistry, plan: &Plan) -> bool {
        let (metrics, requests) = (self.metrics.clone(), self.requests.clone());
        let resource = ObjectRef::from_obj(quinistry);
        let tell = move |fetched: &Fetched, late| {
            metrics.looked(match fetched {
                Fetched::Whole(_) => Look::Whole,
                Fetched::Corrupt(_) => Look::Corrupt,
                Fetched::Failed(_) => Look::Failed,
            });
            if late {
                let _ = requests.send(resource.clone());
            }
        };
        self.eyes.look(&plan.verify, Arc::new(tell)).await
    }

    async fn apply(&self, quinistry: &Quinistry, plan: &Plan) -> Result<(), OperatorError> {
        let own = self.pieces.cut(quinistry);
        for action in &plan.actions {
            match apply(&self.client, quinistry, own.as_ref(), action).await {
                Ok(applied) => self.applied(quinistry, applied).await,
                // One node without its carrier is no reason to leave the others.
                Err(error) if matches!(action, Action::Label { .. }) => {
                    tracing::warn!(
                        namespace = quinistry.namespace(),
                        name = quinistry.name_any(),
                        "{}",
                        one_line(&error)
                    );
                }
                Err(error) => {
                    let refused = match (&error, action) {
                        (OperatorError::Apply { source, .. }, Action::Apply(set)) => error::rejection(source)
                            .map(|(reason, message)| Rejection {
                                applied: build::applied(set).into(),
                                reason,
                                message,
                            }),
                        _ => None,
                    };
                    let Some(rejection) = refused else { return Err(error) };
                    tracing::warn!(
                        namespace = quinistry.namespace(), name = quinistry.name_any(),
                        reason = %rejection.reason, "refused by the API server: {}", rejection.message
                    );
                    self.memories.reject(quinistry, Some(rejection));
                    // What follows in the plan stands on this.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn applied(&self, quinistry: &Quinistry, applied: Applied) {
        match &applied {
            Applied::Set(set) => {
                self.metrics.wrote(Write::Apply);
                self.memories.reject(quinistry, None);
                if let Some((key, view)) = observe::daemon_set((**set).clone()) {
                    self.daemon_sets.put(key, DaemonSet { accepted: true, ..view });
                }
            }
            Applied::Deleted(_) => self.metrics.wrote(Write::Delete),
            Applied::Replaced(_) => self.metrics.wrote(Write::Replace),
            Applied::Restored(_) | Applied::Dropped(_) => self.metrics.wrote(Write::Piece),
            Applied::Labelled(..) => self.metrics.wrote(Write::Label),
            Applied::Nothing => return,
        }
        if let Some(event) = events::of_action(&applied) {
            tracing::info!(
                namespace = quinistry.namespace(),
                name = quinistry.name_any(),
                "{}",
                event.note.as_deref().unwrap_or_default()
            );
            events::publish(&self.recorder, quinistry, vec![event]).await;
        }
    }

    /// Says what is new; or when, if that can wait, and may.
    async fn report(
        &self,
        quinistry: &Quinistry,
        plan: &Plan,
        may_wait: bool,
    ) -> Result<Option<Duration>, OperatorError> {
        let counted = plan.generations.iter().filter(|one| one.generation > 0);
        let ready = counted.filter(|one| one.state == GenerationState::Ready).count();
        let desired = usize::try_from(quinistry.spec.generations).unwrap_or_default();
        self.metrics.reported(&quinistry.uid().unwrap_or_default(), desired, ready, &plan.words);
        let reported = self.memories.reported(quinistry);
        let before = reported.as_ref().or(quinistry.status.as_ref());
        let status = report::status(quinistry, plan, before, Timestamp::now());
        if before == Some(&status) {
            self.memories.report(quinistry, status);
            return Ok(None);
        }
        if may_wait
            && before.is_some_and(|before| report::is_mere_progress(before, &status))
            && let Some(pause) = self.memories.written(quinistry).and_then(|ago| PROGRESS.checked_sub(ago))
        {
            return Ok(Some(pause));
        }
        match report::write(&self.client, quinistry, &status).await {
            // Deleted in the meantime.
            Err(error) if error.category() == Category::NotFound => return Ok(None),
            written => {
                written?;
            }
        }
        self.metrics.wrote(Write::Status);
        self.memories.wrote(quinistry);
        let news = events::of_change(before, &status);
        self.memories.report(quinistry, status);
        events::publish(&self.recorder, quinistry, news).await;
        Ok(None)
    }

    /// After a failure: when to try again.
    fn after(&self, quinistry: &Quinistry, error: &OperatorError) -> Next {
        let failures = self.memories.failed(quinistry);
        let Some(pause) = error.category().pause(failures) else {
            // Whoever comes to lead looks at it.
            return Next::await_change();
        };
        tracing::warn!(
            namespace = quinistry.namespace(), name = quinistry.name_any(), retry = ?pause,
            "reconcile failed: {}", one_line(error)
        );
        Next::requeue(pause)
    }

    /// Drops what is remembered of resources and pods that are no more.
    fn forget(&self) {
        let resources = self.resources.state();
        let alive: BTreeSet<_> = resources.iter().filter_map(|quinistry| quinistry.uid()).collect();
        self.memories.keep(&alive);
        self.metrics.keep(|uid| alive.contains(uid));
        self.pieces.forget();
        let pods = self.pods.select(|_| true);
        if self.eyes.remembered() > pods.len() {
            self.eyes.keep(&pods.iter().map(|pod| pod.start.uid.as_str()).collect());
        }
    }

    /// The resource of an object, by UID.
    fn resource(&self, uid: &str) -> Option<ObjectRef<Quinistry>> {
        self.resources
            .find(|quinistry| quinistry.metadata.uid.as_deref() == Some(uid))
            .map(|quinistry| ObjectRef::from_obj(&*quinistry))
    }
}

/// Plans; where no carrier is known for a node, with what its pods are found to run in. (Client required then.)
async fn plan_with_carriers(
    client: &Client,
    quinistry: &Quinistry,
    observed: &mut Observed,
) -> Result<Plan, OperatorError> {
    let plan = plan::plan(quinistry, observed, Timestamp::now());
    if plan.strangers.is_empty() || quinistry.spec.suspend {
        return Ok(plan);
    }
    for node in plan.strangers {
        let running = observe::running(client, &node).await?;
        observed.running.insert(node, running);
    }
    Ok(plan::plan(quinistry, observed, Timestamp::now()))
}

/// Up to a tenth more, by the resource's UID, so that not all are looked at in the same moment.
fn jittered(duration: Duration, quinistry: &Quinistry) -> Duration {
    let uid = quinistry.uid().unwrap_or_default();
    let spread = uid.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 100;
    duration + duration / 1000 * spread
}
