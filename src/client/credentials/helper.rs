//! `docker-credential-<name>`: programs that keep secrets where the desktop keeps them.
//!
//! Protocol: docker/docker-credential-helpers. Only `get` and `store`.

use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{CredentialError, Credentials, Secret};

/// The user name that says the secret is an identity token.
const TOKEN: &str = "<token>";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credentials>, CredentialError> {
    let output = match run(name, "get", server.as_bytes()).await {
        Ok(output) => output,
        // The one failure that means no more than "none".
        Err(CredentialError::Helper { reason, .. }) if reason.contains("credentials not found") => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let message: Message = serde_json::from_slice(&output).map_err(|_| CredentialError::Helper {
        name: name.into(),
        reason: "its answer is not understood".into(),
    })?;
    let secret = Secret::new(message.secret);
    Ok(Some(match message.username {
        username if username == TOKEN => Credentials::IdentityToken(secret),
        username => Credentials::Password { username, password: secret },
    }))
}

pub(super) async fn store(
    name: &str,
    server: &str,
    username: &str,
    secret: &Secret,
) -> Result<(), CredentialError> {
    let message =
        Message { server_url: server.into(), username: username.into(), secret: secret.expose().into() };
    run(name, "store", &crate::oci::to_json(&message)).await.map(drop)
}

async fn run(name: &str, action: &str, input: &[u8]) -> Result<Vec<u8>, CredentialError> {
    let failed = |reason: String| CredentialError::Helper { name: name.into(), reason };
    // The name becomes part of a program's name, and must not become a path.
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
    let said: String =
        String::from_utf8_lossy(&output.stdout).chars().filter(|c| !c.is_control()).take(300).collect();
    Err(failed(if said.is_empty() { output.status.to_string() } else { said }))
}
