//! Providers of tokens in old kubeconfigs (`auth-provider`): the token of `oidc`, and the command of `gcp`.

use std::process::Command;

use k8s_openapi::jiff::Timestamp;
use kube::client::AuthError;
use kube::config::AuthProviderConfig;
use serde_json::Value;

use super::{EXPIRY_MARGIN, Issued, IssuedToken};

/// Returns the token of a provider.
pub(super) fn issue(provider: &AuthProviderConfig) -> Result<Issued, AuthError> {
    let id_token = provider.config.get("id-token").cloned().map(Issued::LastingToken);
    let refused = |why: &str| AuthError::AuthExec(why.into());
    match provider.name.as_str() {
        "oidc" => id_token.ok_or_else(|| refused("the auth provider oidc of the kubeconfig has no id-token")),
        "gcp" => id_token.map_or_else(|| by_command(provider), Ok),
        "azure" => Err(refused(
            "the auth provider azure of the kubeconfig is not supported; use \
             https://github.com/Azure/kubelogin instead",
        )),
        name => Err(refused(&format!("the auth provider {name} of the kubeconfig is not supported"))),
    }
}

/// Returns the token that the kubeconfig has, or runs the command for a new one.
fn by_command(provider: &AuthProviderConfig) -> Result<Issued, AuthError> {
    let setting = |key: &str| provider.config.get(key).map(String::as_str);
    if let (Some(token), Some(expiry)) = (setting("access-token"), setting("expiry")) {
        let expires = time(expiry)?;
        if Timestamp::now() + EXPIRY_MARGIN < expires {
            return Ok(Issued::Token(IssuedToken { token: token.into(), expires }));
        }
    }
    let command = setting("cmd-path").ok_or_else(|| {
        AuthError::AuthExec(
            "the auth provider gcp of the kubeconfig has neither a token nor a cmd-path".into(),
        )
    })?;
    let arguments = setting("cmd-args").unwrap_or_default();
    let mut program = Command::new(command);
    program.args(arguments.split_ascii_whitespace());
    // An extension of kube's.
    for variable in setting("cmd-drop-env").unwrap_or_default().split_ascii_whitespace() {
        program.env_remove(variable);
    }
    let out = program.output().map_err(AuthError::AuthExecStart)?;
    if !out.status.success() {
        return Err(AuthError::AuthExecRun { cmd: format!("{command} {arguments}"), out: Box::new(out) });
    }
    let Some(token_key) = setting("token-key") else {
        let text = String::from_utf8(out.stdout);
        return text.map(Issued::LastingToken).map_err(|_| {
            AuthError::AuthExec("the auth provider of the kubeconfig did not print a token".into())
        });
    };
    let output: Value = serde_json::from_slice(&out.stdout).map_err(AuthError::ParseTokenKey)?;
    let token = text_at(&output, "token-key", token_key)?;
    match setting("expiry-key") {
        Some(key) => {
            let expires = time(&text_at(&output, "expiry-key", key)?)?;
            Ok(Issued::Token(IssuedToken { token, expires }))
        }
        None => Ok(Issued::LastingToken(token)),
    }
}

fn time(text: &str) -> Result<Timestamp, AuthError> {
    text.parse().map_err(AuthError::MalformedTokenExpirationDate)
}

/// Returns the text at a path such as `{.credential.access_token}` or `$.tokens[0]`.
fn text_at(output: &Value, setting: &str, path: &str) -> Result<String, AuthError> {
    let names = path.trim_matches(['"', '{', '}', '$']).split(['.', '[', ']', '\'']);
    let found = names.filter(|name| !name.is_empty()).try_fold(output, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    });
    let found = found.and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| {
        AuthError::AuthExec(format!(
            "the auth provider of the kubeconfig did not print a text at its {setting} {path:?}"
        ))
    })
}
