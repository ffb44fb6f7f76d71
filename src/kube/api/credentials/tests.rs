//! Credentials of users of kubeconfigs, with plugins that run.

use super::*;

fn user(text: &str) -> AuthInfo {
    quinistry_yaml::from_str(text).unwrap()
}

fn error_of(text: &str) -> String {
    let error = Credentials::load(&user(text)).err().unwrap();
    crate::api::kubeconfig::describe_client(&error)
}

async fn header(text: &str) -> Option<String> {
    let credentials = Credentials::load(&user(text)).unwrap();
    let header = credentials.authorization.header().await.unwrap()?;
    assert!(header.is_sensitive());
    Some(header.to_str().unwrap().to_owned())
}

/// Returns a user whose plugin is a script.
fn plugin(script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    format!("exec: {{apiVersion: a/v1, command: sh, args: ['-c', {script}], interactiveMode: Never{more}}}")
}

/// Returns a user whose plugin prints a status.
fn printing(status: &str) -> String {
    plugin(&format!("echo '{{\"kind\":\"ExecCredential\",\"status\":{status}}}'"), "")
}

#[tokio::test]
async fn tokens_and_passwords_become_headers() {
    for (text, expected) in [
        ("{}", None),
        ("{username: a, password: b}", Some("Basic YTpi")),
        ("{token: t, tokenFile: /missing}", Some("Bearer t")),
        ("{token: t, username: a, password: b}", Some("Basic YTpi")),
        ("{token: t, auth-provider: {name: oidc, config: {id-token: i}}}", Some("Bearer i")),
        ("{auth-provider: {name: gcp, config: {id-token: i}}}", Some("Bearer i")),
        (
            "{auth-provider: {name: gcp, config: {access-token: a, expiry: '2999-01-01T00:00:00Z'}}}",
            Some("Bearer a"),
        ),
        ("{auth-provider: {name: gcp, config: {cmd-path: echo, cmd-args: c}}}", Some("Bearer c")),
    ] {
        assert_eq!(header(text).await.as_deref(), expected, "{text}");
    }
    for name in ["azure", "other"] {
        assert!(error_of(&format!("auth-provider: {{name: {name}}}")).contains("not supported"));
    }
}

#[tokio::test]
async fn a_provider_finds_its_token_by_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    std::fs::write(&path, r#"{"credential": {"tokens": ["t"], "at": "2999-01-01T00:00:00Z"}}"#).unwrap();
    let user = |key: &str| {
        let path = path.display();
        format!(
            "auth-provider: {{name: gcp, config: {{cmd-path: cat, cmd-args: '{path}', token-key: '{key}', \
             expiry-key: '{{.credential.at}}'}}}}"
        )
    };
    for key in ["{.credential.tokens[0]}", "$.credential.tokens[0]", "credential.tokens.0"] {
        assert_eq!(header(&user(key)).await.as_deref(), Some("Bearer t"), "{key}");
    }
    assert!(error_of(&user("{.credential.none}")).contains("token-key"));
}

#[tokio::test]
async fn a_token_file_is_read_again_and_its_last_token_kept() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\n").unwrap();
    assert_eq!(header(&format!("tokenFile: {}", file.path().display())).await.as_deref(), Some("Bearer one"));
    let mut token = TokenFile::read(file.path().into()).unwrap();
    std::fs::write(file.path(), "two").unwrap();
    let begin = token.read_at;
    assert_eq!(token.token(begin + TOKEN_FILE_LIFETIME / 2), "one\n");
    assert_eq!(token.token(begin + TOKEN_FILE_LIFETIME), "two");
    std::fs::remove_file(file.path()).unwrap();
    assert_eq!(token.token(begin + 3 * TOKEN_FILE_LIFETIME), "two");
    assert!(error_of("tokenFile: /missing").contains("/missing"));
}

#[tokio::test]
async fn a_plugin_gives_a_token_or_a_certificate() {
    assert_eq!(header(&printing(r#"{"token":"t"}"#)).await.as_deref(), Some("Bearer t"));
    assert_eq!(header(&plugin("printf 'status:\\n  token: t\\n'", "")).await.as_deref(), Some("Bearer t"));
    assert_eq!(header(&printing("{}")).await, None);
    let text = printing(r#"{"clientCertificateData":"C","clientKeyData":"K"}"#);
    let credentials = Credentials::load(&user(&text)).unwrap();
    assert_eq!(credentials.identity(), Some(&b"K\nC\n"[..]));
}

#[tokio::test]
async fn a_plugin_knows_for_what_it_runs() {
    let script = "test \"$A\" = b && encoded=$(printf %s \"$KUBERNETES_EXEC_INFO\" | base64 -w0) && \
                  printf 'status: {token: %s}' \"$encoded\"";
    let header = header(&plugin(script, ", env: [{name: A, value: b}]")).await.unwrap();
    let information = STANDARD.decode(header.strip_prefix("Bearer ").unwrap()).unwrap();
    let information: serde_json::Value = serde_json::from_slice(&information).unwrap();
    let expected =
        serde_json::json!({"apiVersion": "a/v1", "kind": "ExecCredential", "spec": {"interactive": false}});
    assert_eq!(information, expected);
}

#[tokio::test]
async fn an_expired_token_is_replaced_and_another_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    for (expiry, expected) in [("2001-01-01T00:00:00Z", 3), ("2999-01-01T00:00:00Z", 1)] {
        let _ = std::fs::remove_file(&runs);
        let script = format!(
            "echo >> {0}; echo \"status: {{expirationTimestamp: '{expiry}', token: t$(wc -l < {0})}}\"",
            runs.display()
        );
        let credentials = Credentials::load(&user(&plugin(&script, ""))).unwrap();
        credentials.authorization.header().await.unwrap();
        let header = credentials.authorization.header().await.unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), format!("Bearer t{expected}"));
    }
}

#[test]
fn failures_of_plugins_are_told_without_their_output() {
    for (text, expected) in [
        (plugin("echo hunter2; echo hunter2 >&2; exit 3", ""), "the exec plugin sh of the kubeconfig failed"),
        (plugin("echo hunter2", ""), "did not print an ExecCredential"),
        (printing("[hunter2]"), "did not print an ExecCredential"),
        (printing(r#"{"token":"t","expirationTimestamp":"hunter2"}"#), "malformed time of expiry"),
        ("exec: {command: /missing/plugin}".into(), "unable to run"),
        ("exec: {}".into(), "command must be specified"),
    ] {
        let error = error_of(&text);
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_certificate_has_its_key() {
    let encoded = STANDARD.encode("x");
    let loaded = Credentials::load(&user(&format!(
        "{{client-certificate-data: {encoded}, client-key-data: {encoded}}}"
    )));
    assert_eq!(loaded.unwrap().identity(), Some(&b"x\nx"[..]));
    assert!(error_of(&format!("client-certificate-data: {encoded}")).contains("client key"));
    assert!(error_of(&format!("client-key-data: {encoded}")).contains("client certificate"));
    assert!(error_of("{client-certificate: /missing, client-key: /missing}").contains("/missing"));
}
