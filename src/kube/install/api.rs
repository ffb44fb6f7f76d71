//! A client of the API server that works with paths and JSON. Kubernetes' own types for all objects of an
//! installation would add megabytes to the program.
//!
//! Makes no decisions. Every error names the operation and the object.

mod kind;
mod request;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::cluster_identity::ClusterIdentity;
use super::error::InstallError;
use crate::api::names::managers;
use crate::api::types::{self, Metadata as _};
use crate::lenient::{Sparse, decode_each};
use request::{ApiRequest, Verb};

pub use kind::{
    ACCOUNT, BINDING, BUNDLE, CLUSTER_BINDING, CLUSTER_ROLE, CONFIG_MAP, CRD, DAEMON_SET, DEPLOYMENT, KINDS,
    LEASE, NAMESPACE, NODE, POD, QUINISTRY, ROLE, ResourceKind,
};

/// Media type that asks for lists of metadata, and falls back to whole objects.
pub(super) const METADATA_LIST_TYPE: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// Number of objects in one page of a list.
const LIST_PAGE_OBJECTS: u32 = 500;

/// Function that receives one line about a wait for the API server.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// Client of one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    identity: Arc<ClusterIdentity>,
    /// Time for which a request is repeated while the API server answers 429 or 503.
    retry_timeout: Duration,
    notice: Notice,
}

// By hand: neither the client nor the function has a debug form.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Outcome of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    /// The API server accepted the deletion.
    Deleted,
    /// The object did not exist.
    Missing,
    /// The object has changed since it was read, or another one has its name. Nothing was deleted.
    Changed,
}

/// One page of a list.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Sparse>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(rename = "continue", default)]
    next: String,
}

// === impl Cluster ===

impl Cluster {
    /// Reports each wait for the API server to `notice`.
    #[must_use]
    pub fn with_notice(self, notice: Notice) -> Self {
        Self { notice, ..self }
    }

    /// Returns the cluster's names in the kubeconfig, and its address.
    #[must_use]
    pub fn identity(&self) -> &ClusterIdentity {
        &self.identity
    }

    /// Returns the client, for callers that need Kubernetes' own types.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Reads an object. Returns `None` if the object, its kind or its namespace does not exist.
    pub async fn get<T: DeserializeOwned>(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, InstallError> {
        let what = || format!("read {}", kind.display_name(namespace, name));
        match self.request(&ApiRequest::read(&kind.path(namespace, name)), what).await {
            Err(error) if error.is_missing() => Ok(None),
            result => result.map(Some),
        }
    }

    /// Lists the objects of a kind, limited by `labels` unless that is empty, in all namespaces if
    /// `namespace` is empty. Returns an empty list if the kind does not exist. Objects that cannot be decoded
    /// are logged and left out.
    pub async fn list<T: DeserializeOwned>(
        &self,
        kind: ResourceKind,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<T>, InstallError> {
        self.list_as(kind, namespace, labels, None).await
    }

    /// Lists like [`list`](Self::list), but fetches only the metadata.
    pub(super) async fn names(
        &self,
        kind: ResourceKind,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<types::Object>, InstallError> {
        self.list_as(kind, namespace, labels, Some(METADATA_LIST_TYPE)).await
    }

    async fn list_as<T: DeserializeOwned>(
        &self,
        kind: ResourceKind,
        namespace: &str,
        labels: &str,
        accept: Option<&str>,
    ) -> Result<Vec<T>, InstallError> {
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("limit", &LIST_PAGE_OBJECTS.to_string())
                .append_pair("labelSelector", labels)
                .append_pair("continue", &next)
                .finish();
            let path = format!("{}?{query}", kind.path(namespace, ""));
            let what = || format!("list {}", kind.plural);
            match self.request::<List>(&ApiRequest::read(&path).accepting(accept), what).await {
                Ok(page) => {
                    all.extend(decode_each(kind.plural, page.items));
                    next = page.metadata.next;
                }
                Err(error) if error.is_missing() => return Ok(all),
                // 410 Gone: the list expired between two pages. Read it from the beginning.
                Err(error) if error.code() == Some(410) && !next.is_empty() => {
                    all.clear();
                    next.clear();
                    continue;
                }
                Err(error) => return Err(error),
            }
            if next.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Reads any path of the API, for objects without a [`ResourceKind`].
    pub async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        accept: Option<&str>,
    ) -> Result<T, InstallError> {
        self.request(&ApiRequest::read(path).accepting(accept), || format!("read {path}")).await
    }

    /// Reads any path without dropping nulls, for callers that tell null, absent and empty apart.
    pub(super) async fn read_as_sent(&self, path: &str, accept: Option<&str>) -> Result<Value, InstallError> {
        let what = || format!("read {path}");
        let text = self.send(&ApiRequest::read(path).accepting(accept), what).await?;
        serde_json::from_str(&text)
            .map_err(|error| InstallError::api(what(), &kube::Error::SerdeError(error), &self.identity))
    }

    /// Posts an object whose answer matters and that is not stored, such as an access review.
    pub async fn post(&self, path: &str, question: &Value) -> Result<Value, InstallError> {
        self.request(&ApiRequest::new(Verb::Create, path, bytes(question)), || format!("ask {path}")).await
    }

    /// Creates an object. Fails with a conflict if an object of that name exists.
    pub async fn create<T: DeserializeOwned>(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
        body: Vec<u8>,
    ) -> Result<T, InstallError> {
        let path = format!("{}?fieldManager={}", kind.path(namespace, ""), managers::UP);
        self.request(&ApiRequest::new(Verb::Create, &path, body), || {
            format!("create {}", kind.display_name(namespace, name))
        })
        .await
    }

    /// Applies an object (server-side apply); its own fields name kind, namespace and name. Takes the fields that
    /// other writers own.
    pub async fn apply(&self, object: &Value) -> Result<Value, InstallError> {
        self.apply_object(object, true).await
    }

    /// Applies an object. Fails with a conflict if another writer owns a field that has another value.
    pub(super) async fn apply_unforced(&self, object: &Value) -> Result<Value, InstallError> {
        self.apply_object(object, false).await
    }

    async fn apply_object(&self, object: &Value, is_forced: bool) -> Result<Value, InstallError> {
        let kind = ResourceKind::of(object).expect("only objects of known kinds are applied");
        let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (part("namespace"), part("name"));
        self.apply_body((kind, &namespace, &name), bytes(object), is_forced).await
    }

    /// Applies an object that is given as text, in YAML or JSON.
    pub async fn apply_text(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
        body: Vec<u8>,
    ) -> Result<Value, InstallError> {
        self.apply_body((kind, namespace, name), body, true).await
    }

    async fn apply_body(
        &self,
        (kind, namespace, name): (ResourceKind, &str, &str),
        body: Vec<u8>,
        is_forced: bool,
    ) -> Result<Value, InstallError> {
        let path = kind.path(namespace, name);
        let path = format!("{path}?fieldManager={}&force={is_forced}", managers::UP);
        let what = || format!("apply {}", kind.display_name(namespace, name));
        let query = ApiRequest::new(Verb::Apply, &path, body);
        let mut tries = 0;
        loop {
            match self.request(&query, what).await {
                // 409 Conflict: another writer applied at the same moment, and the API server does not wait.
                Err(error) if error.is_conflict() && tries < 5 => tries += 1,
                result => return result,
            }
        }
    }

    /// Changes parts of an object by a JSON merge patch.
    pub async fn merge_patch(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
        change: &Value,
    ) -> Result<(), InstallError> {
        let path = format!("{}?fieldManager={}", kind.path(namespace, name), managers::UP);
        let what = || format!("change {}", kind.display_name(namespace, name));
        self.request::<IgnoredAny>(&ApiRequest::new(Verb::Merge, &path, bytes(change)), what).await.map(drop)
    }

    /// Deletes an object if it still has the UID and resource version with which it was read. An object
    /// without them counts as changed: a precondition of null would match any object.
    pub(super) async fn delete(
        &self,
        kind: ResourceKind,
        namespace: &str,
        seen: &ObjectMeta,
    ) -> Result<Deletion, InstallError> {
        let (Some(uid), Some(version)) = (&seen.uid, &seen.resource_version) else {
            return Ok(Deletion::Changed);
        };
        let name = seen.name();
        let options = serde_json::json!({
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid, "resourceVersion": version},
        });
        let what = || format!("delete {}", kind.display_name(namespace, name));
        let path = kind.path(namespace, name);
        match self.request::<IgnoredAny>(&ApiRequest::new(Verb::Delete, &path, bytes(&options)), what).await {
            Ok(_) => Ok(Deletion::Deleted),
            Err(error) if error.is_missing() => Ok(Deletion::Missing),
            Err(error) if error.is_conflict() => Ok(Deletion::Changed),
            Err(error) => Err(error),
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value is JSON")
}
