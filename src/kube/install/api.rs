//! The API server, by paths and JSON: Kubernetes' own types for all that is made here would be megabytes of program.
//!
//! Takes a client, decides nothing. Every failure says what was being done to what.

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
    ACCOUNT, BINDING, CLUSTER_BINDING, CLUSTER_ROLE, CONFIG_MAP, CRD, DAEMON_SET, DEPLOYMENT, KINDS, LEASE,
    NAMESPACE, NODE, POD, QUINISTRY, ROLE, ResourceKind,
};

/// What asks for lists of metadata, where there are such.
pub(super) const METADATA_LIST_TYPE: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// How many objects are asked for at once.
const LIST_PAGE_OBJECTS: u32 = 500;

/// Receives one line about a wait for the API server.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// The cluster that is spoken to.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    identity: Arc<ClusterIdentity>,
    /// Time for which an API server that answers 429 or 503 is asked again.
    retry_timeout: Duration,
    notice: Notice,
}

// The client and the notice have nothing to show.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The outcome of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletion {
    /// The API server took it.
    Deleted,
    /// The object was not there.
    Missing,
    /// The object is not as it was seen, or another one has its name: nothing was deleted.
    Changed,
}

/// A page of a list.
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
    /// Tells each wait for the API server to `notice`.
    #[must_use]
    pub fn with_notice(self, notice: Notice) -> Self {
        Self { notice, ..self }
    }

    /// Returns the names of this cluster.
    #[must_use]
    pub fn identity(&self) -> &ClusterIdentity {
        &self.identity
    }

    /// For what takes a client of its own.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// An object; none if it, its kind or its namespace is not there.
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

    /// Lists all objects of a kind, with certain labels if any are named; in all namespaces, if none is
    /// named. Returns no objects where the kind itself does not exist. Objects that cannot be read are logged
    /// and left out.
    pub async fn list<T: DeserializeOwned>(
        &self,
        kind: ResourceKind,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<T>, InstallError> {
        self.list_as(kind, namespace, labels, None).await
    }

    /// The same, of which only the metadata is sent.
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
                // The list grew old while it was read: from the beginning.
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

    /// Any path of the API, for what has no kind above.
    pub async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        accept: Option<&str>,
    ) -> Result<T, InstallError> {
        self.request(&ApiRequest::read(path).accepting(accept), || format!("read {path}")).await
    }

    /// Reads any path exactly as it is answered: where null, absent and empty differ.
    pub(super) async fn read_as_sent(&self, path: &str, accept: Option<&str>) -> Result<Value, InstallError> {
        let what = || format!("read {path}");
        let text = self.send(&ApiRequest::read(path).accepting(accept), what).await?;
        serde_json::from_str(&text)
            .map_err(|error| InstallError::api(what(), &kube::Error::SerdeError(error), &self.identity))
    }

    /// Asks a question that is put as an object, such as whether one may do something.
    pub async fn post(&self, path: &str, question: &Value) -> Result<Value, InstallError> {
        self.request(&ApiRequest::new(Verb::Create, path, bytes(question)), || format!("ask {path}")).await
    }

    /// Creates an object. It being there already is a conflict.
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

    /// Server-side apply of an object that says itself what it is.
    pub async fn apply(&self, object: &Value) -> Result<Value, InstallError> {
        let kind = ResourceKind::of(object).expect("only objects of known kinds are applied");
        let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        self.apply_text(kind, &part("namespace"), &part("name"), bytes(object)).await
    }

    /// The same with its text, as YAML or JSON.
    pub async fn apply_text(
        &self,
        kind: ResourceKind,
        namespace: &str,
        name: &str,
        body: Vec<u8>,
    ) -> Result<Value, InstallError> {
        let path = format!("{}?fieldManager={}&force=true", kind.path(namespace, name), managers::UP);
        let what = || format!("apply {}", kind.display_name(namespace, name));
        let query = ApiRequest::new(Verb::Apply, &path, body);
        let mut tries = 0;
        loop {
            match self.request(&query, what).await {
                // Two that apply at once: the API server says so instead of waiting.
                Err(error) if error.is_conflict() && tries < 5 => tries += 1,
                result => return result,
            }
        }
    }

    /// Changes parts of an object.
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

    /// Deletes an object exactly as it was seen: of that UID and resource version. An object that was seen
    /// without them counts as changed, since a precondition of null is none.
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
