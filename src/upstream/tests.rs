//! Questions to servers in this process, which record what reaches them, and to distribution's registry.
//!
//! All servers are on loopback; the network of the tests counts 127.0.1.0/24 among the public addresses, 127.0.2.0/24
//! among the private ones, and 127.0.3.0/24 among those of a link.

mod authorization;
mod blobs;
mod circles;
mod distribution;
mod lists;
mod manifests;
mod proxies;
mod redirects;
mod server;
mod tls;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinistry_client::Secret;
use quinistry_client::proxy::Proxies;
use quinistry_oci::{Reference, RepositoryName};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use self::server::Server;
use crate::address::AddressClass;
use crate::network::Network;
use crate::{Insecure, Remote, RemoteCredentials, RemoteOptions};

/// Names of the tests, with the addresses that they resolve to, one after the other; the last one stays.
#[derive(Debug, Default)]
struct Names(Mutex<HashMap<&'static str, Vec<IpAddr>>>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let mut names = self.0.lock().unwrap();
        let found = names
            .get_mut(name.as_str())
            .map(|addresses| if addresses.len() > 1 { addresses.remove(0) } else { addresses[0] });
        Box::pin(async move {
            let address = found.ok_or_else(|| io::Error::other("unknown name"))?;
            Ok(Box::new([SocketAddr::new(address, 0)].into_iter()) as Addrs)
        })
    }
}

fn classify(address: IpAddr) -> Option<AddressClass> {
    match address {
        IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, 1] => Some(AddressClass::Public),
        IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, 2] => Some(AddressClass::Private),
        IpAddr::V4(v4) if v4.octets()[..3] == [127, 0, 3] => Some(AddressClass::Link),
        other => AddressClass::of(other),
    }
}

/// Returns a network in which names resolve to these addresses.
fn network(names: &[(&'static str, &[&str])]) -> Network {
    let mut all: HashMap<_, Vec<IpAddr>> = HashMap::from([
        ("public.test", vec!["127.0.1.1".parse().unwrap()]),
        ("other.test", vec!["127.0.1.2".parse().unwrap()]),
        ("private.test", vec!["127.0.2.1".parse().unwrap()]),
        ("link.test", vec!["127.0.3.1".parse().unwrap()]),
    ]);
    for (name, addresses) in names {
        all.insert(name, addresses.iter().map(|address| address.parse().unwrap()).collect());
    }
    Network { names: Arc::new(Names(Mutex::new(all))), classify, proxies: Arc::new(Proxies::default()) }
}

/// Returns the options of an upstream at a public address, by plain HTTP.
fn options(server: &Server) -> RemoteOptions {
    RemoteOptions { insecure: Insecure::Public, ..RemoteOptions::new("test", server.url("public.test", "/")) }
}

fn remote(options: RemoteOptions) -> Remote {
    Remote::in_network(options, network(&[])).unwrap()
}

fn password() -> RemoteCredentials {
    RemoteCredentials::Password { username: "user".into(), password: Secret::new("hunter2") }
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn tag(tag: &str) -> Reference {
    Reference::Tag(tag.parse().unwrap())
}
