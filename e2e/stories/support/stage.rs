//! Environment of one story: a namespace, ports, and functions for the usual steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, ValidationDirective};
use kube::{Api, ResourceExt as _};
use quinistry::crd::Quinistry;
use serde_json::{Value, json};

use super::operator::SharedOperator;
use super::world::{OperatorPlace, World};
use super::{diagnosis, wait};

/// First port of the stories: below the ranges that clusters give to services and kernels to outgoing
/// connections.
const FIRST_PORT: usize = 20_000;
/// Ports per story: 16 generations, and registries on the nodes.
const PORTS_PER_STORY: usize = 32;
/// Field manager of the stories' server-side apply.
const FIELD_MANAGER: &str = "story";

/// Environment of one story.
pub struct Stage {
    pub world: Arc<World>,
    pub namespace: String,
    pub base_port: i32,
    operator: Option<Arc<SharedOperator>>,
    story: &'static str,
    began: Instant,
    skipped: AtomicBool,
}

impl Stage {
    /// Creates the namespace.
    pub async fn new(
        world: &Arc<World>,
        operator: Option<Arc<SharedOperator>>,
        story: &'static str,
        number: usize,
    ) -> Result<Self> {
        let label = story.replace('_', "-");
        let api = Api::<Namespace>::all(world.client.clone());
        // A namespace that an earlier run kept for inspection occupies the ports.
        let leftover = ListParams::default().labels(&format!("quinistry.dev/story={label}"));
        for namespace in api.list(&leftover).await? {
            api.delete(&namespace.name_any(), &DeleteParams::default()).await?;
        }
        wait::until_none(&api, &leftover, Duration::from_secs(90), "an earlier run's namespace is gone")
            .await?;
        let namespace = serde_json::from_value(json!({"metadata": {
            "generateName": format!("e2e-{label}-"),
            "labels": {"pod-security.kubernetes.io/enforce": "privileged", "quinistry.dev/story": label},
        }}))?;
        let namespace = api.create(&PostParams::default(), &namespace).await?.name_any();
        let base_port = i32::try_from(FIRST_PORT + number * PORTS_PER_STORY).expect("few stories");
        let (world, began) = (Arc::clone(world), Instant::now());
        Ok(Self { world, namespace, base_port, operator, story, began, skipped: AtomicBool::new(false) })
    }

    /// Prints a line of the story's log.
    pub fn log(&self, line: impl std::fmt::Display) {
        println!("{:>16} {:>6.1} s  {line}", self.story, self.began.elapsed().as_secs_f32());
    }

    /// Marks the story as skipped, and prints why.
    pub fn skip(&self, why: &str) {
        self.skipped.store(true, Ordering::Relaxed);
        self.log(format_args!("skipped: {why}"));
    }

    /// Returns true if the story was skipped.
    pub fn is_skipped(&self) -> bool {
        self.skipped.load(Ordering::Relaxed)
    }

    pub fn operator(&self) -> &SharedOperator {
        self.operator.as_deref().expect("the story asks for an operator")
    }

    /// Returns true if a story can run its own operators beside the shared one; skips the story if not.
    pub fn can_run_operators(&self) -> bool {
        let can = self.world.local && self.world.operator != OperatorPlace::Elsewhere;
        if !can {
            self.skip("operators beside the stories cannot reach the pods, or are managed outside");
        }
        can
    }

    pub fn resources(&self) -> Api<Quinistry> {
        Api::namespaced(self.world.client.clone(), &self.namespace)
    }

    pub fn daemon_sets(&self) -> Api<DaemonSet> {
        Api::namespaced(self.world.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.world.client.clone(), &self.namespace)
    }

    /// Builds a resource of this story: the first image, on the stage's ports, on all nodes.
    pub fn resource(&self, name: &str, generations: i32) -> Value {
        json!({
            "apiVersion": "quinistry.dev/v1alpha1",
            "kind": "Quinistry",
            "metadata": {"name": name},
            "spec": {
                "image": self.world.first.image,
                "generations": generations,
                "basePort": self.base_port,
                "tolerations": [{"operator": "Exists"}],
            },
        })
    }

    /// Applies a resource as `kubectl apply --server-side` does, which refuses unknown fields.
    pub async fn apply(&self, resource: &Value) -> kube::Result<Quinistry> {
        let name = resource["metadata"]["name"].as_str().expect("the resource has a name");
        let mut parameters = PatchParams::apply(FIELD_MANAGER);
        parameters.field_validation = Some(ValidationDirective::Strict);
        self.resources().patch(name, &parameters, &Patch::Apply(resource)).await
    }

    /// Creates a resource as `kubectl create` and a first `kubectl apply` do, which refuse unknown fields,
    /// too.
    pub async fn create(&self, resource: &Value) -> kube::Result<Value> {
        let url = format!(
            "/apis/quinistry.dev/v1alpha1/namespaces/{}/quinistries?fieldValidation=Strict",
            self.namespace
        );
        let body = serde_json::to_vec(resource).map_err(kube::Error::SerdeError)?;
        let request = http::Request::post(url).header("Content-Type", "application/json").body(body);
        self.world.client.request(request.expect("a request")).await
    }

    /// Waits until a resource is Ready at its current specification.
    pub async fn until_ready(&self, name: &str, deadline: Duration) -> Result<Quinistry> {
        wait::until(&self.resources(), name, deadline, &format!("{name} is Ready"), is_ready).await
    }

    /// Waits until a condition of a resource at its current specification has this status and reason. Returns
    /// its message.
    pub async fn until(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
        deadline: Duration,
    ) -> Result<String> {
        let line = format!("{name} has {kind} {status}, {reason}");
        let resources = self.resources();
        let resource = wait::until(&resources, name, deadline, &line, |one| {
            let observed = one.status.as_ref().map(|status| status.observed_generation);
            let matches =
                condition(one, kind).is_some_and(|found| found.status == status && found.reason == reason);
            matches && observed == one.metadata.generation
        });
        Ok(condition(&resource.await?, kind).map(|found| found.message.clone()).unwrap_or_default())
    }

    /// Deletes a resource, and waits until all its objects are gone.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.resources().delete(name, &DeleteParams::default()).await?;
        self.until_empty(Duration::from_mins(1)).await
    }

    /// Waits until no resource, `DaemonSet` or pod is left.
    pub async fn until_empty(&self, deadline: Duration) -> Result<()> {
        let all = ListParams::default();
        wait::until_none(&self.resources(), &all, deadline, "all resources are gone").await?;
        wait::until_none(&self.daemon_sets(), &all, deadline, "all DaemonSets are gone").await?;
        wait::until_none(&self.pods(), &all, deadline, "all pods are gone").await
    }

    /// Describes the stage's objects and the operator after a failure.
    pub async fn diagnosis(&self) -> String {
        diagnosis::of_story(&self.world, &self.namespace, self.operator.as_deref()).await
    }

    /// Deletes all resources and `DaemonSets`, and waits until their pods are gone.
    pub async fn empty(&self) -> Result<()> {
        let all = ListParams::default();
        self.resources().delete_collection(&DeleteParams::background(), &all).await?;
        self.daemon_sets().delete_collection(&DeleteParams::background(), &all).await?;
        self.until_empty(Duration::from_mins(1)).await
    }

    /// Deletes the namespace, and waits until it is gone.
    pub async fn clear(&self) -> Result<()> {
        // The content goes first: the namespace controller checks again only after the pods' grace period.
        self.empty().await?;
        let api = Api::<Namespace>::all(self.world.client.clone());
        api.delete(&self.namespace, &DeleteParams::default())
            .await
            .context("failed to delete the namespace")?;
        let selection = ListParams::default().fields(&format!("metadata.name={}", self.namespace));
        wait::until_none(&api, &selection, Duration::from_secs(90), "the namespace is gone").await
    }
}

/// Returns a condition of a resource, if the operator has set it.
pub fn condition<'a>(resource: &'a Quinistry, kind: &str) -> Option<&'a Condition> {
    resource.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Returns true if the resource is Ready at its current specification.
pub fn is_ready(resource: &Quinistry) -> bool {
    let observed = resource.status.as_ref().map(|status| status.observed_generation);
    let ready = condition(resource, "Ready");
    observed == resource.metadata.generation && ready.is_some_and(|ready| ready.status == "True")
}
