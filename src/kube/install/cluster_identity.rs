//! Identity of the cluster: its names in the kubeconfig and its address. Sends no requests.

use std::fmt;
use std::path::Path;

use kube::config::Kubeconfig;

use super::error::InstallError;

/// Number of contexts that an error lists.
const MAX_LISTED_CONTEXTS: usize = 20;

/// Names and address of the cluster, for prompts, findings and errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// Context of the kubeconfig; `None` with a pod's own credentials.
    pub context: Option<String>,
    /// Cluster that the context names.
    pub cluster: Option<String>,
    /// Address of the API server.
    pub server: String,
    /// Command of the exec plugin that supplies credentials, if any.
    pub plugin: Option<String>,
}

// === impl ClusterIdentity ===

impl ClusterIdentity {
    /// Finds the context in a kubeconfig. The error for a missing context lists the existing ones.
    pub(super) fn of(file: &Kubeconfig, wanted: Option<&str>) -> Result<Self, InstallError> {
        let current = file.current_context.as_deref().filter(|name| !name.is_empty());
        let Some(name) = wanted.or(current) else {
            let why = format!("the kubeconfig names no current context; {}", known_contexts(file));
            return Err(InstallError::Cluster(why));
        };
        let Some(context) = file.contexts.iter().find(|context| context.name == name) else {
            return Err(InstallError::Cluster(format!(
                "context {name:?} does not exist; {}",
                known_contexts(file)
            )));
        };
        let cluster = context.context.as_ref().map(|context| context.cluster.clone());
        let user = context.context.as_ref().and_then(|context| context.user.as_ref());
        let user = file.auth_infos.iter().find(|one| Some(&one.name) == user);
        let exec = user.and_then(|user| user.auth_info.as_ref()?.exec.as_ref());
        Ok(Self {
            context: Some(name.into()),
            cluster,
            server: String::new(),
            plugin: exec.and_then(|exec| exec.command.clone()),
        })
    }
}

impl fmt::Display for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.context, &self.cluster) {
            (Some(context), Some(cluster)) if cluster != context => {
                write!(f, "cluster {cluster} (context {context}, {})", self.server)
            }
            (Some(context), _) => write!(f, "cluster {context} ({})", self.server),
            _ => write!(f, "the cluster of this pod ({})", self.server),
        }
    }
}

fn known_contexts(file: &Kubeconfig) -> String {
    let mut names: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
    names.sort_unstable();
    match names.len() {
        0 => "it holds no contexts".into(),
        count if count > MAX_LISTED_CONTEXTS => {
            format!(
                "there are {} and {} more",
                names[..MAX_LISTED_CONTEXTS].join(", "),
                count - MAX_LISTED_CONTEXTS
            )
        }
        _ => format!("there are: {}", names.join(", ")),
    }
}

/// Explains why an exec plugin did not supply credentials. Leaves out its output, which may contain them.
pub(super) fn plugin_failure(error: &kube::client::AuthError, identity: &ClusterIdentity) -> Option<String> {
    use kube::client::AuthError as A;
    let command = identity.plugin.as_deref().unwrap_or("without a command");
    let shown = Path::new(command).display();
    Some(match error {
        A::AuthExecStart(error) if error.kind() == std::io::ErrorKind::NotFound => format!(
            "the exec plugin {shown}, which the kubeconfig names for credentials, is not installed; install it, or put \
             its folder into PATH"
        ),
        A::AuthExecStart(error) => format!("the exec plugin {shown} cannot be started: {error}"),
        A::AuthExecRun { out, .. } => {
            let code = out.status.code().map_or_else(|| "a signal".into(), |code| format!("code {code}"));
            format!("the exec plugin {shown} ended with {code}; run it by hand to see why")
        }
        A::ExecPluginFailed => {
            format!("the exec plugin {shown} did not print an ExecCredential")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(current: &str) -> Kubeconfig {
        quinistry_yaml::from_str(&format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: '{current}'\n\
             clusters: [{{name: stove, cluster: {{server: 'https://192.0.2.1'}}}}]\n\
             users: [{{name: cook, user: {{exec: {{apiVersion: a/v1, command: oven-login}}}}}}]\n\
             contexts:\n\
             - {{name: pantry, context: {{cluster: stove, user: cook}}}}\n\
             - {{name: cellar, context: {{cluster: cellar, user: guest}}}}\n"
        ))
        .unwrap()
    }

    #[test]
    fn a_place_names_context_and_cluster() {
        let mut identity = ClusterIdentity::of(&file("pantry"), None).unwrap();
        identity.server = "https://192.0.2.1".into();
        assert_eq!(identity.to_string(), "cluster stove (context pantry, https://192.0.2.1)");
        assert_eq!(identity.plugin.as_deref(), Some("oven-login"));
        let identity = ClusterIdentity::of(&file("pantry"), Some("cellar")).unwrap();
        assert_eq!(identity.to_string(), "cluster cellar ()");
        assert_eq!(identity.plugin, None);
    }

    #[test]
    fn an_unknown_context_lists_those_there_are() {
        let error_of =
            |current: &str, wanted| ClusterIdentity::of(&file(current), wanted).unwrap_err().to_string();
        let text = error_of("pantry", Some("attic"));
        assert!(text.contains("\"attic\" does not exist; there are: cellar, pantry"), "{text}");
        assert!(error_of("gone", None).contains("\"gone\" does not exist; there are: cellar, pantry"));
        assert!(error_of("", None).contains("no current context; there are: cellar, pantry"));
    }

    #[test]
    fn a_missing_plugin_is_named() {
        let identity = ClusterIdentity::of(&file("pantry"), None).unwrap();
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let text = plugin_failure(&kube::client::AuthError::AuthExecStart(missing), &identity).unwrap();
        assert!(text.contains("oven-login") && text.contains("not installed"), "{text}");
    }
}
