//! Kubeconfigs: reading them, and the configuration of a client for their cluster. Called by the operator's
//! driver and by the installer.
//!
//! Errors name the place in a file and never its content, which may be keys and tokens. Proxies are chosen as
//! kubectl does: the cluster's own `proxy-url`, else those of the environment, with `NO_PROXY`.

use std::io;
use std::path::Path;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};
use quinistry_client::proxy::Proxies;
use reqwest::Url;

/// Keys that an error may name. Other words in the place of a key may be secrets.
const KEYS: [&str; 28] = [
    "apiVersion",
    "kind",
    "preferences",
    "clusters",
    "cluster",
    "server",
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "tls-server-name",
    "proxy-url",
    "contexts",
    "context",
    "namespace",
    "current-context",
    "users",
    "user",
    "token",
    "tokenFile",
    "username",
    "password",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "exec",
    "auth-provider",
    "name",
];

/// Reads a kubeconfig file, or the files that the environment names.
pub(crate) fn read(path: Option<&Path>) -> Result<Kubeconfig, String> {
    if let Some(path) = path {
        return read_file(path);
    }
    let list = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let Some(list) = list else {
        let path = std::env::home_dir().ok_or("failed to find a home with a kubeconfig")?;
        return read_file(&path.join(".kube/config"));
    };
    let mut merged = Kubeconfig::default();
    for path in std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()) {
        merged = merged.merge(read_file(&path)?).map_err(|error| describe(&error))?;
    }
    Ok(merged)
}

fn read_file(path: &Path) -> Result<Kubeconfig, String> {
    let failed = |error| describe(&KubeconfigError::ReadConfig(error, path.into()));
    let text = text(&std::fs::read(path).map_err(failed)?).map_err(failed)?;
    let documents: Vec<Kubeconfig> = quinistry_yaml::documents(&text).map_err(|at| {
        let key = key_at(&text, at.line);
        let key = if key.is_empty() { key } else { format!(" ({key})") };
        format!("failed to read kubeconfig {}: {at}{key}", path.display())
    })?;
    let mut merged = Kubeconfig::default();
    for mut document in documents {
        anchor(&mut document, path.parent().unwrap_or(Path::new("")));
        merged = merged.merge(document).map_err(|error| describe(&error))?;
    }
    Ok(merged)
}

/// Decodes a file: UTF-8, or the UTF-16 of Windows with its mark of byte order.
fn text(bytes: &[u8]) -> io::Result<String> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is neither UTF-8 nor UTF-16");
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks().0.iter().copied().map(unit).collect();
        String::from_utf16(&units).map_err(|_| invalid())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes.into()).map_err(|_| invalid()),
    }
}

/// Makes the paths in a file relative to its folder, as in client-go. A plugin without a slash is searched in
/// PATH.
fn anchor(file: &mut Kubeconfig, folder: &Path) {
    let anchor = |path: &mut String| {
        if let Some(anchored) = folder.join(&*path).to_str() {
            anchored.clone_into(path);
        }
    };
    for cluster in file.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.certificate_authority.iter_mut().for_each(anchor);
    }
    for user in file.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        let paths = [&mut user.client_certificate, &mut user.client_key, &mut user.token_file];
        paths.into_iter().flatten().for_each(anchor);
        let plugin = user.exec.as_mut().and_then(|exec| exec.command.as_mut());
        plugin.filter(|command| command.contains('/')).into_iter().for_each(anchor);
    }
}

/// Returns the configuration for the cluster of a context, by default the current one.
pub(crate) async fn config(file: Kubeconfig, context: Option<&str>) -> Result<Config, String> {
    let own = has_proxy(&file, context);
    let options = KubeConfigOptions { context: context.map(Into::into), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file, &options).await;
    let mut config = config.map_err(|error| describe(&error))?;
    if !own {
        config.proxy_url = by_environment(&config)?;
    }
    Ok(config)
}

/// Returns the configuration for the cluster of the environment: from a kubeconfig, or from a pod's own
/// credentials.
pub(crate) async fn infer() -> Result<Config, String> {
    let mut config = match read(None) {
        Ok(file) => match self::config(file, None).await {
            Ok(config) => config,
            Err(why) => in_cluster(&why)?,
        },
        Err(why) => in_cluster(&why)?,
    };
    config.apply_debug_overrides();
    Ok(config)
}

/// Reads a pod's own credentials. A pod reaches its API server without proxies.
pub(crate) fn in_cluster(why_else: &str) -> Result<Config, String> {
    Config::incluster().map_err(|error| format!("{why_else}; {error}"))
}

/// Returns true if the cluster of a context names a proxy of its own.
fn has_proxy(file: &Kubeconfig, context: Option<&str>) -> bool {
    let name = context.or(file.current_context.as_deref());
    let context = file.contexts.iter().find(|one| Some(one.name.as_str()) == name);
    let cluster = context.and_then(|one| Some(one.context.as_ref()?.cluster.as_str()));
    let cluster = file.clusters.iter().find(|one| Some(one.name.as_str()) == cluster);
    let proxy = cluster.and_then(|one| one.cluster.as_ref()?.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

fn by_environment(config: &Config) -> Result<Option<http::Uri>, String> {
    let Ok(url) = config.cluster_url.to_string().parse::<Url>() else { return Ok(None) };
    let proxies = Proxies::from_env();
    let proxy = proxies.for_url(&url).map(|proxy| proxy.as_str().parse());
    proxy.transpose().map_err(|_| "the environment's proxy is not an address".into())
}

/// Describes an error without the content of files.
fn describe(error: &KubeconfigError) -> String {
    use KubeconfigError as E;
    let data = |what: &str, error: &LoadDataError| match error {
        LoadDataError::DecodeBase64(_) => format!("the {what} in the kubeconfig is not base64"),
        error => format!("failed to read the {what}: {error}"),
    };
    match error {
        E::Parse(_) => "the kubeconfig is malformed".into(),
        E::LoadCertificateAuthority(error) => data("certificate authority", error),
        E::LoadClientCertificate(error) => data("client certificate", error),
        E::LoadClientKey(error) => data("client key", error),
        E::ParseCertificates(_) => "the certificate authority in the kubeconfig is not PEM".into(),
        E::ParseClusterUrl(_) => "the server in the kubeconfig is not a URL".into(),
        E::ParseProxyUrl(_) => {
            "the address of the proxy, in proxy-url or in HTTPS_PROXY, is not a URL".into()
        }
        other => other.to_string(),
    }
}

/// Describes why a configuration gives no client, without keys, tokens and the output of plugins.
pub(crate) fn describe_client(error: &kube::Error) -> String {
    use kube::client::AuthError as A;
    match error {
        kube::Error::Auth(A::AuthExecRun { cmd, out }) => {
            format!("the exec plugin {cmd} of the kubeconfig failed ({})", out.status)
        }
        kube::Error::Auth(A::ExecPluginFailed) => {
            "the exec plugin of the kubeconfig did not print an ExecCredential".into()
        }
        kube::Error::Auth(A::ParseTokenKey(_)) => {
            "the auth provider of the kubeconfig did not print a token".into()
        }
        kube::Error::Auth(A::MalformedTokenExpirationDate(_)) => {
            "the token of the kubeconfig has a malformed time of expiry".into()
        }
        kube::Error::InferKubeconfig(error) => describe(error),
        other => other.to_string(),
    }
}

/// Returns the path of known keys that leads to a line, by indentation, such as `users.user.token`.
fn key_at(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let mut path = Vec::new();
    let mut limit = usize::MAX;
    for line in lines.iter().rev() {
        let inner = line.trim_start_matches([' ', '-']);
        let indent = line.len() - inner.len();
        let Some(key) =
            KEYS.iter().find(|key| inner.strip_prefix(**key).is_some_and(|rest| rest.starts_with(':')))
        else {
            continue;
        };
        // YAML allows a list at the indentation of its key.
        let is_outer = indent < limit || path.is_empty();
        if is_outer {
            path.push(*key);
            limit = indent;
        }
        if indent == 0 {
            break;
        }
    }
    path.reverse();
    path.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2";

    fn file(text: &str) -> Kubeconfig {
        quinistry_yaml::from_str(text).unwrap()
    }

    #[test]
    fn a_malformed_file_is_named_with_its_place_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        for text in [
            "users:\n- name: cook\n  user:\n    token: [hunter2\n",
            "users:\n- name: cook\n  user:\n    token: {a: hunter2}\n",
            "users:\n- name: cook\n  user:\n    client-key-data: \"hunter2\n",
            "users:\n- name: cook\n  user:\n    exec: hunter2\n",
            "users: hunter2\n",
            "hunter2",
            "hunter2: [\n",
            "users:\n- name: cook\n  user:\n   token: hunter2\n  hunter2\n : x\n",
            "clusters:\n- name: a\n  cluster:\n    insecure-skip-tls-verify: hunter2\n",
            "{\"users\": [{\"name\": \"cook\", \"user\": {\"token\": hunter2\"}}]",
            "users:\n- name: cook\n  user:\n    token: !!binary hunter2\n    token: hunter2\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_file(&path).err().unwrap_or_else(|| panic!("{text} is read"));
            assert!(!error.contains(SECRET) && !error.contains('\n'), "{error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
        std::fs::write(&path, "users:\n- name: cook\n  user:\n    token: {a: hunter2}\n").unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(error.contains("line 4") && error.contains("users.user.token"), "{error}");
    }

    #[test]
    fn paths_are_relative_to_the_file_and_documents_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let text = "users:\n- name: a\n  user: {client-key: k, tokenFile: /t, exec: {command: ./p}}\n---\n\
                    users:\n- {name: a, user: {}}\n- name: b\n  user: {exec: {command: p}}\n";
        let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for bytes in
            [text.into(), [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(), utf_16(&format!("\u{feff}{text}"))]
        {
            std::fs::write(&path, bytes).unwrap();
            let users = read_file(&path).unwrap().auth_infos;
            let [a, b] = &*users else { panic!("{users:?}") };
            let [a, b] = [a, b].map(|user| user.auth_info.as_ref().unwrap());
            let here = |name: &str| Some(folder.path().join(name).to_str().unwrap().to_owned());
            assert_eq!((&a.client_key, a.token_file.as_deref()), (&here("k"), Some("/t")));
            assert_eq!(a.exec.as_ref().unwrap().command, here("./p"));
            assert_eq!(b.exec.as_ref().unwrap().command.as_deref(), Some("p"));
        }
        std::fs::write(&path, "").unwrap();
        assert!(read_file(&path).unwrap().contexts.is_empty());
        std::fs::write(&path, b"\xff").unwrap();
        assert!(read_file(&path).unwrap_err().contains("UTF-8"));
    }

    #[tokio::test]
    async fn data_that_cannot_be_read_is_not_quoted() {
        for entry in ["client-key-data: 'hunter2?'", "client-certificate-data: 'hunter2?'"] {
            let file = file(&format!(
                "current-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
                 clusters: [{{name: a, cluster: {{server: 'https://192.0.2.1', certificate-authority-data: 'hunter2?'}}}}]\n\
                 users:\n- name: a\n  user: {{{entry}}}\n"
            ));
            let error = config(file, None).await.unwrap_err();
            assert!(!error.contains(SECRET), "{error}");
        }
    }

    #[test]
    fn a_cluster_has_its_own_proxy_or_that_of_the_environment() {
        let file = file(
            "current-context: b\n\
             contexts: [{name: a, context: {cluster: a}}, {name: b, context: {cluster: b}}]\n\
             clusters: [{name: a, cluster: {proxy-url: 'socks5://p'}}, {name: b, cluster: {proxy-url: ''}}]\n",
        );
        assert!(has_proxy(&file, Some("a")));
        assert!(!has_proxy(&file, Some("b")));
        assert!(!has_proxy(&file, None));
        assert!(!has_proxy(&file, Some("c")));
    }
}
