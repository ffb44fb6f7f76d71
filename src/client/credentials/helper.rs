//! `docker-credential-<name>`: programs that store secrets in the desktop's keychain.
//!
//! Protocol: docker/docker-credential-helpers. Only `get`, `store` and `erase`.

use std::process::Stdio;

use quinistry_oci::escape;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{CredentialError, Credentials, Secret};

/// User name that marks the secret as an identity token.
const IDENTITY_TOKEN_USERNAME: &str = "<token>";

/// Length of a helper's message that an error repeats.
const MAX_REASON_CHARS: usize = 300;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    #[serde(rename = "ServerURL")]
    server_url: &'a str,
    username: &'a str,
    secret: &'a str,
}

pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credentials>, CredentialError> {
    match run(name, "get", server.as_bytes()).await {
        Ok(output) => parse(&output)
            .map_err(|reason| CredentialError::Helper { name: name.into(), reason: reason.into() }),
        Err(error) if is_none(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses the output of `get`. Helpers without credentials print nothing, `null`, or empty texts.
pub(super) fn parse(output: &[u8]) -> Result<Option<Credentials>, &'static str> {
    if output.trim_ascii().is_empty() {
        return Ok(None);
    }
    // Not the parser's message, which quotes secrets.
    let answer: Value = serde_json::from_slice(output).map_err(|_| "its answer is not JSON")?;
    let text = |name: &str| match answer.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("its answer has a member that is not a text"),
    };
    if !answer.is_object() && !answer.is_null() {
        return Err("its answer is not an object");
    }
    let (username, secret) = (text("Username")?, text("Secret")?);
    Ok(match (username.as_str(), secret.as_str()) {
        ("" | IDENTITY_TOKEN_USERNAME, "") => None,
        (IDENTITY_TOKEN_USERNAME, _) => Some(Credentials::IdentityToken(Secret::new(secret))),
        _ => Some(Credentials::Password { username, password: Secret::new(secret) }),
    })
}

/// Returns true if a failure means that the helper has no such credentials.
fn is_none(error: &CredentialError) -> bool {
    matches!(error, CredentialError::Helper { reason, .. }
        if reason.to_ascii_lowercase().contains("credentials not found"))
}

/// Removes credentials. Returns true if there may have been any: the protocol does not tell.
pub(super) async fn erase(name: &str, server: &str) -> Result<bool, CredentialError> {
    if get(name, server).await?.is_none() {
        return Ok(false);
    }
    match run(name, "erase", server.as_bytes()).await {
        Ok(_) => Ok(true),
        Err(error) if is_none(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn store(
    name: &str,
    server: &str,
    username: &str,
    secret: &Secret,
) -> Result<(), CredentialError> {
    let message = Message { server_url: server, username, secret: secret.expose() };
    run(name, "store", &quinistry_oci::to_json(&message)).await.map(drop)
}

async fn run(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let failed = |reason: String| CredentialError::Helper { name: name.into(), reason };
    // The name becomes part of a program's name and must not become a path.
    if name.contains('/') {
        return Err(failed("its name is a path".into()));
    }
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut stdin = child.stdin.take().expect("it was piped");
    // A helper that does not read its input may have what it needs; its exit code decides.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    // The protocol puts messages on standard output, and nothing secret into them.
    let reason: String =
        String::from_utf8_lossy(&output.stdout).trim().chars().take(MAX_REASON_CHARS).collect();
    Err(failed(if reason.is_empty() { output.status.to_string() } else { escape::line(&reason) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_knows_nothing_may_say_so_in_many_ways() {
        for answer in [
            "",
            " \n",
            "null",
            "{}",
            r#"{"ServerURL":"a","Username":"","Secret":""}"#,
            r#"{"Username":null}"#,
        ] {
            assert_eq!(parse(answer.as_bytes()), Ok(None), "{answer:?}");
        }
        let token = Some(Credentials::IdentityToken(Secret::new("s")));
        assert_eq!(parse(br#"{"Username":"<token>","Secret":"s"}"#), Ok(token));
        let password = Some(Credentials::Password { username: "u".into(), password: Secret::new("s") });
        assert_eq!(parse(br#"{"Username":"u","Secret":"s","More":1}"#), Ok(password));
        for answer in ["hunter2", r#"{"Secret":["hunter2"]}"#, r#"["hunter2"]"#] {
            assert!(!parse(answer.as_bytes()).unwrap_err().contains("hunter2"));
        }
    }
}
