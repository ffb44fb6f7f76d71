//! Connections to the API server, and requests that are repeated while it cannot serve.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::request::ApiRequest;
use crate::api::errors::is_passing;
use crate::api::kubeconfig;
use crate::install::cluster_identity::{ClusterIdentity, plugin_failure};
use crate::install::connect;
use crate::install::error::InstallError;
use crate::lenient::Sparse;

/// Time without an answer after which a notice says that the request waits.
const NOTICE_AFTER: Duration = Duration::from_secs(3);

/// Upper limit of the pause before a repeated request.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(2);

impl Cluster {
    /// Connects to the cluster of a kubeconfig, of the environment, or of the pod that this process runs in.
    /// Requests to an overloaded API server are repeated for `retry_timeout`.
    pub async fn connect(
        path: Option<&Path>,
        context: Option<&str>,
        retry_timeout: Duration,
    ) -> Result<Self, InstallError> {
        let file = kubeconfig::read(path);
        let (file, why) = match file {
            // Without a kubeconfig this process may run in a pod of the cluster.
            Ok(file) if path.is_none() && context.is_none() && file.contexts.is_empty() => {
                (None, "the kubeconfig holds no contexts".into())
            }
            Ok(file) => (Some(file), String::new()),
            Err(why) if path.is_none() && context.is_none() => (None, why),
            Err(why) => return Err(InstallError::Cluster(why)),
        };
        let (mut config, mut identity) = match file {
            Some(file) => {
                let identity = ClusterIdentity::of(&file, context)?;
                (kubeconfig::config(file, context).await.map_err(InstallError::Cluster)?, identity)
            }
            None => {
                (kubeconfig::in_cluster(&why).map_err(InstallError::Cluster)?, ClusterIdentity::default())
            }
        };
        // `send` repeats requests: bounded, and with notices.
        config.default_retry = false;
        config.cluster_url.to_string().trim_end_matches('/').clone_into(&mut identity.server);
        let client = connect::client(config).map_err(|error| {
            let plugin = match &error {
                kube::Error::Auth(auth) => plugin_failure(auth, &identity),
                _ => None,
            };
            plugin.map_or_else(
                || InstallError::Cluster(kubeconfig::describe_client(&error)),
                InstallError::Credentials,
            )
        })?;
        Ok(Self { client, identity: Arc::new(identity), retry_timeout, notice: Arc::new(|_| {}) })
    }

    pub(super) async fn request<T: DeserializeOwned>(
        &self,
        query: &ApiRequest<'_>,
        what: impl Fn() -> String,
    ) -> Result<T, InstallError> {
        let text = self.send(query, &what).await?;
        let decoded = serde_json::from_str(&text).and_then(|Sparse(value)| T::deserialize(&value));
        decoded.map_err(|error| InstallError::api(what(), &kube::Error::SerdeError(error), &self.identity))
    }

    /// Sends a request, repeats it while the API server cannot serve, and returns the text of the answer.
    pub(super) async fn send(
        &self,
        query: &ApiRequest<'_>,
        what: impl Fn() -> String,
    ) -> Result<String, InstallError> {
        let began = Instant::now();
        let mut pause = MAX_RETRY_PAUSE / 8;
        loop {
            let error = match self.answer(query.build()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => InstallError::api(what(), &error, &self.identity),
            };
            let Some(code) = error.code().filter(|code| is_passing(*code)) else { return Err(error) };
            if began.elapsed() + pause > self.retry_timeout {
                return Err(error);
            }
            (self.notice)(&format!(
                "waiting: {} answers {code}, asking again for up to {} s",
                self.identity,
                self.retry_timeout.as_secs()
            ));
            sleep(pause).await;
            pause = (pause * 2).min(MAX_RETRY_PAUSE);
        }
    }

    /// Waits for an answer, with a notice if it takes long.
    async fn answer(&self, request: Request<Vec<u8>>) -> Result<String, kube::Error> {
        // As text: the client's own decoder would log the whole answer that it cannot decode.
        let mut answer = std::pin::pin!(self.client.request_text(request));
        if let Ok(answer) = timeout(NOTICE_AFTER, &mut answer).await {
            return answer;
        }
        (self.notice)(&format!("waiting: no answer from {} yet", self.identity));
        answer.await
    }
}
