//! Redirects, and the addresses to which none leads.

use quinistry_fetch::{SourceError, Upstream as _, Wanted};
use quinistry_oci::{Digest, media_type};

use super::server::{LINK, OTHER, PRIVATE, PUBLIC, Response, Server, answer, redirect};
use super::{network, options, remote, repository, tag};
use crate::{Insecure, Remote, RemoteOptions};

fn manifest() -> Response {
    answer(200, &[("content-type", media_type::OCI_INDEX)], r#"{"schemaVersion":2,"manifests":[]}"#)
}

async fn ask(remote: &Remote) -> Result<(), SourceError> {
    remote.get_manifest(&repository("a"), &tag("1")).await.map(drop)
}

async fn redirecting(to: String) -> Server {
    Server::start(PUBLIC, move |_| redirect(&to)).await
}

#[tokio::test]
async fn a_redirect_to_a_public_host_is_followed() {
    let other = Server::start(OTHER, |_| manifest()).await;
    let server = redirecting(other.url("other.test", "/x?signature=y")).await;
    ask(&remote(options(&server))).await.unwrap();
    assert_eq!(other.asked(), ["GET /x"]);
}

#[tokio::test]
async fn row_157_no_redirect_and_no_name_leads_from_the_internet_to_a_private_address() {
    let private = Server::start(PRIVATE, |_| manifest()).await;
    let link = Server::start(LINK, |_| manifest()).await;
    let port = private.address.port();
    for to in [
        private.url("private.test", "/"),
        private.url("127.0.2.1", "/"),
        private.url("2130706945", "/"),
        private.url("0x7f000201", "/"),
        private.url("127.0.01001", "/"),
        private.url("127.0.1.1@127.0.2.1", "/"),
        format!("//private.test:{port}/"),
        link.url("link.test", "/"),
        link.url("127.0.3.1", "/"),
        "http://169.254.169.254/latest/meta-data/".into(),
        "http://[::ffff:169.254.169.254]/latest/meta-data/".into(),
        "http://[fe80::1]/".into(),
        "http://[fc00::1]/".into(),
        "http://[::1]/".into(),
        "http://0.0.0.0/".into(),
        "http://10.0.0.1/".into(),
        "http://100.64.0.1/".into(),
        "http://localhost/".into(),
    ] {
        let server = redirecting(to.clone()).await;
        let names: [(&'static str, &[&str]); 1] = [("localhost", &["127.0.0.1"])];
        let remote = Remote::in_network(options(&server), network(&names)).unwrap();
        let error = ask(&remote).await.unwrap_err();
        assert!(matches!(error, SourceError::Invalid(_)), "{to}: {error:?}");
        let wanted = Wanted { digest: Digest::sha256(b""), length: None, from: 0, validator: None };
        let error = remote.blobs(&repository("a")).open(wanted).await.map(drop).unwrap_err();
        assert!(matches!(error, SourceError::Invalid(_)), "{to}: {error:?}");
        assert_eq!(server.requests().len(), 2, "{to}");
    }
    // A name in the place of a repository is a repository.
    let server = Server::start(PUBLIC, |_| manifest()).await;
    let name = repository("169.254.169.254/latest/meta-data");
    remote(options(&server)).get_manifest(&name, &tag("1")).await.unwrap();
    assert_eq!(server.asked(), ["GET /v2/169.254.169.254/latest/meta-data/manifests/1"]);
    assert_eq!((private.requests().len(), link.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_name_that_resolves_to_another_address_later_gains_nothing() {
    let private = Server::start(PRIVATE, |_| manifest()).await;
    // The name of the upstream itself, at the port of the private server.
    let to = private.url("rebinding.test", "/latest/meta-data");
    let server = redirecting(to).await;
    let names: [(&'static str, &[&str]); 1] = [("rebinding.test", &["127.0.1.1", "127.0.2.1"])];
    let own = server.url("rebinding.test", "/");
    let rebinding = RemoteOptions { remote_url: own, ..options(&server) };
    let error = ask(&Remote::in_network(rebinding, network(&names)).unwrap()).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid(_)), "{error:?}");
    // A realm of the upstream is an address that an answer leads to, too.
    let realm = private.url("private.test", "/token");
    let text = format!("Bearer realm=\"{realm}\"");
    let server = Server::start(PUBLIC, move |_| answer(401, &[("www-authenticate", &text)], "")).await;
    let error = ask(&remote(options(&server))).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid(_)), "{error:?}");
    assert_eq!(private.requests().len(), 0);
}

#[tokio::test]
async fn a_private_upstream_and_a_listed_host_may_be_private() {
    let target = Server::start(PRIVATE, |_| manifest()).await;
    let to = target.url("private.test", "/x");
    let at = to.clone();
    let server = Server::start(PRIVATE, move |_| redirect(&at)).await;
    let url = server.url("private.test", "/");
    let options_of = |url: &str| RemoteOptions {
        insecure: Insecure::Private,
        ..RemoteOptions::new("test", url.to_owned())
    };
    ask(&remote(options_of(&url))).await.unwrap();
    assert_eq!(target.requests().len(), 1);

    let public = redirecting(to).await;
    let realms = vec![format!("private.test:{}", target.address.port())];
    ask(&remote(RemoteOptions { realms, ..options(&public) })).await.unwrap();
    assert_eq!(target.requests().len(), 2);

    // The link is nearer than the private network of the upstream.
    let link = Server::start(LINK, |_| manifest()).await;
    let to = link.url("link.test", "/");
    let server = Server::start(PRIVATE, move |_| redirect(&to)).await;
    let error = ask(&remote(options_of(&server.url("private.test", "/")))).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid(_)), "{error:?}");
    assert_eq!(link.requests().len(), 0);
}

#[tokio::test]
async fn a_private_detour_does_not_lead_from_the_internet_to_a_private_address() {
    let private = Server::start(PRIVATE, |_| manifest()).await;
    let to = private.url("private.test", "/");
    let public = redirecting(to).await;
    let public_url = public.url("public.test", "/");
    let server = Server::start(PRIVATE, move |_| redirect(&public_url)).await;
    let remote_url = server.url("private.test", "/");
    let error = ask(&remote(RemoteOptions { remote_url, ..options(&server) })).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid(_)), "{error:?}");
    assert_eq!(private.requests().len(), 0);
}

#[tokio::test]
async fn plain_http_is_for_private_addresses_unless_it_is_allowed_everywhere() {
    let server = Server::start(PUBLIC, |_| manifest()).await;
    for host in ["public.test", "127.0.1.1"] {
        let url = server.url(host, "/");
        let confined =
            RemoteOptions { insecure: Insecure::Private, ..RemoteOptions::new("test", url.clone()) };
        let error = ask(&remote(confined)).await.unwrap_err();
        let SourceError::Unavailable(error) = error else { panic!("{error}") };
        assert!(error.to_string().contains("is not at a private address"), "{error}");
        assert!(Remote::new(RemoteOptions::new("test", url)).is_err());
    }
    assert_eq!(server.requests().len(), 0);
    ask(&remote(options(&server))).await.unwrap();
}
