//! Asking nodes: requests manifests by digest from the pods of generations. A generation answers for a
//! manifest only if it can serve all that the manifest needs, so that one request proves an image.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use quinistry_client::{Client, ClientError, ClientOptions};
use quinistry_oci::{ImageReference, Reference};
use tokio::time::{Instant, timeout, timeout_at};

use super::parse::Image;
use super::proof::{AskableNode, Question};
use crate::one_line::one_line;
use crate::operator::naming::CONTAINER_PORT;
use crate::operator::observed::ObservedPod;
use crate::operator::resource::ResourceIdentity;

/// Number of concurrent requests to one node: a generation checks four manifests at once, for its clients
/// too.
const REQUESTS_PER_NODE: usize = 2;

/// Time limit of one request. A generation waits up to ten seconds for stores that do not answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);

/// Time limit of all requests to one node in a round.
const NODE_TIMEOUT: Duration = Duration::from_secs(40);

/// Answers of one node: each image that it was asked for and answered, and true if it can serve that.
pub(super) type Answers = Vec<(Arc<Image>, bool)>;

/// Client for the pods of generations.
#[derive(Clone, Debug)]
pub(super) struct Asker(Client);

// === impl Asker ===

impl Asker {
    pub(super) fn new() -> Result<Self, ClientError> {
        let options = ClientOptions { plain_http: true, peers: true, ..ClientOptions::default() };
        Client::new(options).map(Self)
    }

    /// Asks one node, until it does not answer or the time is over. (Client required.)
    pub(super) async fn ask(&self, question: &Question) -> Answers {
        let end = Instant::now() + NODE_TIMEOUT;
        let AskableNode { node, ip } = &question.node;
        let requests = question.images.iter().cloned().map(|image| {
            let (asker, ip) = (self.clone(), ip.clone());
            async move {
                let answer = timeout(REQUEST_TIMEOUT, asker.request(&ip, &image)).await;
                (image, answer.unwrap_or_else(|_| Err("no response in time".into())))
            }
        });
        let mut answered = stream::iter(requests).buffer_unordered(REQUESTS_PER_NODE);
        let mut answers = Vec::new();
        while let Ok(Some((image, answer))) = timeout_at(end, answered.next()).await {
            match answer {
                Ok(is_served) => answers.push((image, is_served)),
                // The node's other answers would not come either.
                Err(error) => {
                    tracing::debug!(node, ip, %image, error, "cannot ask node for image");
                    break;
                }
            }
        }
        answers
    }

    /// Returns true if a pod can serve an image, false if it says that it cannot.
    async fn request(&self, ip: &str, image: &Image) -> Result<bool, String> {
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.into() };
        let reference = Reference::Digest(image.digest.clone());
        let image =
            ImageReference::new(&format!("{host}:{CONTAINER_PORT}"), image.repository.clone(), reference)
                .map_err(|error| error.to_string())?;
        match self.0.resolve(&image).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(one_line(&error)),
        }
    }
}

/// Returns the nodes whose generations can be asked, by the lowest generation that is Ready there: images are
/// pulled from the port of generation 1.
pub(super) fn askable_nodes(pods: &[Arc<ObservedPod>], resource: &ResourceIdentity) -> Vec<AskableNode> {
    let mut ready: Vec<(&str, i32, &str)> = pods
        .iter()
        .filter(|pod| {
            pod.generation > 0 && pod.ready.is_some() && !pod.deleting && is_controlled(pod, resource)
        })
        .filter_map(|pod| Some((pod.node.as_deref()?, pod.generation, pod.ip.as_deref()?)))
        .collect();
    ready.sort_unstable();
    ready.dedup_by_key(|(node, ..)| *node);
    ready.into_iter().map(|(node, _, ip)| AskableNode { node: node.into(), ip: ip.into() }).collect()
}

/// Returns true if one of the resource's `DaemonSets` controls the pod, as far as the pod tells.
fn is_controlled(pod: &ObservedPod, resource: &ResourceIdentity) -> bool {
    pod.controller.as_ref().is_some_and(|controller| {
        controller.kind == "DaemonSet"
            && crate::operator::naming::is_of_generation(&resource.name, pod.generation, &controller.name)
    })
}
