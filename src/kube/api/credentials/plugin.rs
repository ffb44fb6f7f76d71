//! Plugins that supply credentials (`exec` in a kubeconfig).
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>

use std::collections::HashMap;
use std::process::{Command, Stdio};

use kube::client::AuthError;
use kube::config::{ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;

use super::{Issued, IssuedToken};

/// Output of a plugin.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<ExecStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecStatus {
    expiration_timestamp: Option<String>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// Runs a plugin.
pub(super) fn issue(plugin: &ExecConfig) -> Result<Issued, AuthError> {
    let name = plugin.command.as_deref().ok_or(AuthError::MissingCommand)?;
    let mut command = Command::new(name);
    command.args(plugin.args.iter().flatten());
    let variable =
        |pair: &HashMap<String, String>| Some((pair.get("name")?.clone(), pair.get("value")?.clone()));
    command.envs(plugin.env.iter().flatten().filter_map(variable));
    command.env("KUBERNETES_EXEC_INFO", information(plugin)?);
    if is_interactive(plugin) {
        command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
    } else {
        command.stdin(Stdio::piped());
    }
    let out = command.output().map_err(AuthError::AuthExecStart)?;
    if !out.status.success() {
        // Without the arguments and variables, which may be secrets.
        return Err(AuthError::AuthExecRun { cmd: name.into(), out: Box::new(out) });
    }
    read(&out.stdout)
}

fn is_interactive(plugin: &ExecConfig) -> bool {
    plugin.interactive_mode != Some(ExecInteractiveMode::Never)
}

/// Returns the text of the variable that tells a plugin for what it runs.
fn information(plugin: &ExecConfig) -> Result<String, AuthError> {
    let mut spec = json!({"interactive": is_interactive(plugin)});
    if plugin.provide_cluster_info {
        let cluster = plugin.cluster.as_ref().ok_or(AuthError::ExecMissingClusterInfo)?;
        spec["cluster"] = serde_json::to_value(cluster).map_err(AuthError::AuthExecSerialize)?;
    }
    Ok(json!({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}).to_string())
}

/// Reads the output of a plugin: JSON, or YAML, which client-go takes as well.
fn read(output: &[u8]) -> Result<Issued, AuthError> {
    let text = std::str::from_utf8(output).map_err(|_| AuthError::ExecPluginFailed)?;
    let credential: ExecCredential =
        quinistry_yaml::from_str(text).map_err(|_| AuthError::ExecPluginFailed)?;
    let status = credential.status.ok_or(AuthError::ExecPluginFailed)?;
    let expires = status.expiration_timestamp.map(|text| text.parse()).transpose();
    let expires = expires.map_err(AuthError::MalformedTokenExpirationDate)?;
    if let (Some(certificate), Some(key)) = (status.client_certificate_data, status.client_key_data) {
        return Ok(Issued::Identity(format!("{key}\n{certificate}\n").into_bytes()));
    }
    Ok(match (status.token, expires) {
        (Some(token), Some(expires)) => Issued::Token(IssuedToken { token, expires }),
        (Some(token), None) => Issued::LastingToken(token),
        (None, _) => Issued::Nothing,
    })
}
