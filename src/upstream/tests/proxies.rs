//! Proxies of the environment.

use std::sync::Arc;

use quinistry_client::proxy::Proxies;
use quinistry_fetch::{SourceError, Upstream as _};
use quinistry_oci::media_type;

use super::server::{PRIVATE, Server, answer, redirect};
use super::{network, password, repository, tag};
use crate::network::Network;
use crate::{Insecure, Remote, RemoteOptions};

fn through(proxy: &str, no_proxy: &str) -> Network {
    let (proxy, no_proxy) = (proxy.to_owned(), no_proxy.to_owned());
    let proxies = Proxies::new(move |name| match name {
        "HTTP_PROXY" | "HTTPS_PROXY" => Some(proxy.clone()),
        "NO_PROXY" => Some(no_proxy.clone()),
        _ => None,
    });
    Network { proxies: Arc::new(proxies), ..network(&[]) }
}

#[tokio::test]
async fn a_proxy_may_be_private_and_addresses_in_urls_are_checked_before_it() {
    let manifest = r#"{"schemaVersion":2,"manifests":[]}"#;
    let proxy = Server::start(PRIVATE, move |request| match request.path.as_str() {
        "/v2/a/manifests/1" => answer(200, &[("content-type", media_type::OCI_INDEX)], manifest),
        "/v2/a/manifests/2" => redirect("http://169.254.169.254/latest/meta-data"),
        _ => redirect("http://10.0.0.1/"),
    })
    .await;
    let url = proxy.url("private.test", "");
    let options = |insecure| RemoteOptions {
        insecure,
        credentials: password(),
        ..RemoteOptions::new("test", "http://unknown.test/")
    };
    let remote = Remote::in_network(options(Insecure::Public), through(&url, "")).unwrap();
    remote.get_manifest(&repository("a"), &tag("1")).await.unwrap();
    assert_eq!(proxy.requests()[0].header("host"), Some("unknown.test"));
    for name in ["2", "3"] {
        let error = remote.get_manifest(&repository("a"), &tag(name)).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid(_)), "{name}: {error}");
    }
    assert_eq!(proxy.requests().len(), 3);
    assert_eq!(proxy.authorizations(), [None, None, None]);

    // Only the proxy knows whether the address is private.
    let confined = Remote::in_network(options(Insecure::Private), through(&url, "")).unwrap();
    let error = confined.get_manifest(&repository("a"), &tag("1")).await.unwrap_err();
    assert!(matches!(error, SourceError::Unavailable(_)), "{error}");
    let direct = Remote::in_network(options(Insecure::Public), through(&url, "unknown.test")).unwrap();
    assert!(direct.get_manifest(&repository("a"), &tag("1")).await.is_err());
    assert_eq!(proxy.requests().len(), 3);
}
