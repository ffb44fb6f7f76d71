//! Upstreams by HTTPS.

use std::path::PathBuf;
use std::sync::Arc;

use quinistry_fetch::{SourceError, Upstream as _};
use quinistry_oci::media_type;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::server::{Connected, PRIVATE, PUBLIC, Received, Response, Server, answer, redirect};
use super::{password, remote, repository, tag};
use crate::{Insecure, RemoteOptions};

/// Starts a server by HTTPS with a certificate for the names of the tests, which is in the returned file.
async fn start(
    address: std::net::Ipv4Addr,
    respond: impl Fn(&Received) -> Response + Send + Sync + 'static,
) -> (Server, tempfile::TempDir, PathBuf) {
    let names = ["public.test", "private.test"].map(str::to_owned).to_vec();
    let certificate = rcgen::generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let respond = Arc::new(respond);
    let server = Server::start_with(
        address,
        move |stream| {
            let accepting = acceptor.accept(stream);
            async { Some(Box::pin(accepting.await.ok()?) as Connected) }
        },
        move |received| {
            let respond = respond.clone();
            async move { respond(&received) }
        },
    )
    .await;
    (server, folder, ca)
}

fn manifest(_: &Received) -> Response {
    answer(200, &[("content-type", media_type::OCI_INDEX)], r#"{"schemaVersion":2,"manifests":[]}"#)
}

fn options(server: &Server, host: &str) -> RemoteOptions {
    let url = server.url(host, "/").replacen("http", "https", 1);
    RemoteOptions { credentials: password(), ..RemoteOptions::new("test", url) }
}

async fn ask(options: RemoteOptions) -> Result<(), SourceError> {
    remote(options).get_manifest(&repository("a"), &tag("1")).await.map(drop)
}

#[tokio::test]
async fn certificates_are_verified_unless_the_upstream_is_private_and_may_be_insecure() {
    let (server, _folder, ca) = start(PUBLIC, manifest).await;
    assert!(matches!(ask(options(&server, "public.test")).await, Err(SourceError::Unavailable(_))));
    ask(RemoteOptions { ca: Some(ca), ..options(&server, "public.test") }).await.unwrap();
    let insecure = |insecure, server, host| RemoteOptions { insecure, ..options(server, host) };
    let confined = ask(insecure(Insecure::Private, &server, "public.test")).await;
    assert!(matches!(confined, Err(SourceError::Unavailable(_))), "{confined:?}");
    ask(insecure(Insecure::Public, &server, "public.test")).await.unwrap();
    assert_eq!(server.requests().len(), 2);
    let (server, _folder, _) = start(PRIVATE, manifest).await;
    ask(insecure(Insecure::Private, &server, "private.test")).await.unwrap();
    let missing = RemoteOptions { ca: Some("/missing.pem".into()), ..options(&server, "private.test") };
    assert!(crate::Remote::new(missing).is_err());
}

#[tokio::test]
async fn row_163_an_upstream_by_https_leads_to_no_plain_http() {
    let plain = Server::start(PUBLIC, |_| answer(200, &[], r#"{"token":"x"}"#)).await;
    let to = plain.url("public.test", "/token");
    let (server, _folder, ca) = start(PUBLIC, move |request| match request.path.as_str() {
        "/v2/a/manifests/1" => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{to}\""))], ""),
        _ => redirect(&to),
    })
    .await;
    let remote = remote(RemoteOptions { ca: Some(ca), ..options(&server, "public.test") });
    for name in ["1", "2"] {
        let error = remote.get_manifest(&repository("a"), &tag(name)).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid(_)), "{name}: {error:?}");
    }
    assert_eq!(server.authorizations(), [None, None]);
    assert_eq!(plain.requests().len(), 0);
}
