//! `load` into the store of a cluster: through an API server that refuses, breaks and closes its port-forwards.

use std::fs;

use serde_json::{Value, json};

use super::load::{CHUNK_BYTES, SHOP, Shop};
use super::{bad, good, quinistry, registry, stderr, stdout};
use crate::support::api_server::{ApiServer, Forward, NAMESPACE, kubeconfig, pod, resource};
use crate::support::cut_proxy::CutProxy;
use crate::support::process::output;
use crate::support::scripted_registry::{Answer, ScriptedRegistry};

/// Command line that loads an archive into the store of the cluster.
fn load<'a>(shop: &'a Shop, config: &'a str) -> Vec<&'a str> {
    vec!["load", shop.archive(), "--kubeconfig", config, "-n", NAMESPACE]
}

/// Checks that a registry has all images, with their tags.
fn check(shop: &Shop, host: &str) {
    for (name, _) in shop.loaded(host) {
        good(&["verify", &name, "--platform", "all"]);
    }
}

#[test]
fn all_images_go_through_the_api_server_and_a_second_load_sends_nothing() {
    let (server, host) = registry();
    let to = server.peer.0;
    let pods = vec![pod("store-a", false), pod("store-b", true)];
    let api = ApiServer::start(resource(), pods, None, move |_, _| Forward::To(to));
    let shop = Shop::new(3 * CHUNK_BYTES / 2);
    let config = kubeconfig(shop.folder(), api.address);
    let json = [&load(&shop, &config)[..], &["-o", "json", "--bundle=web"]].concat();
    let loaded: Value = serde_json::from_str(&good(&json)).unwrap();
    assert_eq!(loaded["sentBytes"], shop.bytes());
    let store =
        json!({"namespace": NAMESPACE, "name": "quinistry", "pod": "store-b", "node": "node-of-store-b"});
    assert_eq!((&loaded["store"], &loaded["registry"]), (&store, &Value::Null), "a ready pod comes first");
    assert_eq!(loaded["images"][0]["target"], format!("localhost:5100/{SHOP}:1.4.0@{}", shop.index));
    assert_eq!(loaded["bundle"]["metadata"], json!({"name": "web", "namespace": NAMESPACE}));
    check(&shop, &host);

    let again = output(&mut quinistry(&load(&shop, &config))).unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
    let notes: Vec<&str> = stderr(&again).lines().collect();
    assert!(notes.len() == 1 && notes[0].contains("--bundle | kubectl apply -f -"), "{notes:?}");
    let text = stdout(&again);
    let total = "store of pantry/quinistry (pod store-b on node node-of-store-b): 3 images; 12.6 MB of 12.6 MB were there\n";
    assert!(text.ends_with(total), "{text}");
    // Only for its room.
    assert_eq!(api.requests("/api/v1/namespaces/pantry/pods/store-a").len(), 2, "one for each load");
}

#[test]
fn a_bundle_and_manifests_for_the_nodes_are_printed_as_one_stream() {
    let (server, _host) = registry();
    let to = server.peer.0;
    let api = ApiServer::start(resource(), vec![pod("store-a", false)], None, move |_, _| Forward::To(to));
    let shop = Shop::new(1000);
    let config = kubeconfig(shop.folder(), api.address);
    let manifests = shop.folder().join("rendered.yaml");
    fs::write(&manifests, format!("kind: Pod\nspec: {{containers: [{{image: \"{SHOP}:1.4.0\"}}]}}\n"))
        .unwrap();
    let manifests = manifests.to_str().unwrap();
    let both = [&load(&shop, &config)[..], &["--bundle", "--rewrite", manifests]].concat();
    let printed = output(&mut quinistry(&both)).unwrap();
    assert!(printed.status.success(), "{}", stderr(&printed));
    let documents: Vec<Value> = serde_saphyr::from_multiple(stdout(&printed)).unwrap();
    let tools = shop.image(0);
    let bundle = json!({
        "apiVersion": "quinistry.dev/v1alpha1", "kind": "Bundle",
        "metadata": {"name": "shop", "namespace": NAMESPACE},
        "spec": {"names": [
            {"name": format!("{SHOP}:1.4.0"), "digest": shop.index},
            {"name": "registry.lan:5000/tools:2", "digest": tools},
        ]},
    });
    let image = |host: &str| format!("{host}/{SHOP}@{}", shop.index);
    let pod = json!({"kind": "Pod", "spec": {"containers": [{"image": image("localhost:5100")}]}});
    assert_eq!(documents, [bundle, pod]);
    assert!(stderr(&printed).contains("store of pantry/quinistry (pod store-a"), "{}", stderr(&printed));
    let again = output(&mut quinistry(&both)).unwrap();
    assert_eq!(stdout(&again), stdout(&printed), "the same bytes");
    let elsewhere = [&load(&shop, &config)[..], &["--as", "mirror.lan", "--rewrite", manifests]].concat();
    assert!(good(&elsewhere).contains(&image("mirror.lan")));
}

#[test]
fn a_load_that_is_cut_twenty_times_sends_at_most_one_chunk_twice_for_each_cut() {
    let (server, host) = registry();
    let to = server.peer.0;
    let api = ApiServer::start(resource(), vec![pod("store-a", true)], None, move |_, _| Forward::To(to));
    let shop = Shop::new(5 * CHUNK_BYTES);
    // Random places after the requests for the resource and its pods.
    let mut state = 42_u64;
    let mut cuts: Vec<u64> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        4000 + state % (5 * CHUNK_BYTES as u64)
    })
    .take(20)
    .collect();
    cuts.sort_unstable();
    let proxy = CutProxy::start(api.address, cuts);
    let config = kubeconfig(shop.folder(), proxy.address);
    good(&load(&shop, &config));
    assert_eq!(proxy.cuts_left(), 0);
    // Requests, and the heads of frames, come on top.
    let bound = shop.bytes() + 20 * CHUNK_BYTES as u64 + (1 << 20);
    assert!(proxy.sent_bytes() <= bound, "{} of {bound}", proxy.sent_bytes());
    check(&shop, &host);
}

#[test]
fn port_forwards_that_end_in_any_way_are_opened_again() {
    let (server, host) = registry();
    let to = server.peer.0;
    let api =
        // The first one asks for the room.
        ApiServer::start(resource(), vec![pod("store-a", true)], None, move |_, earlier| match earlier.wrapping_sub(1) {
            0 => Forward::Refuse(503, "the server is currently unable to handle the request"),
            // After the first answers; the pod counts as one that works.
            1 => Forward::Closed(to, 1000),
            2 => Forward::Refuse(500, "error dialing backend"),
            3 => Forward::Report("error forwarding port 8090: connection refused"),
            4 => Forward::Refuse(429, "too many requests"),
            5 => Forward::HalfClosed(to, 10),
            6 => Forward::Closed(to, 10),
            _ => Forward::To(to),
        });
    let shop = Shop::new(3 * CHUNK_BYTES);
    let config = kubeconfig(shop.folder(), api.address);
    good(&load(&shop, &config));
    check(&shop, &host);
    assert!(api.requests("/api/v1/namespaces/pantry/pods/store-a/portforward").len() > 7);
}

#[test]
fn a_pod_that_fails_for_good_is_left_for_another_one() {
    let shop = Shop::new(3 * CHUNK_BYTES);
    let refused = [
        (404, "pods \"store-a\" not found"),
        (500, "error dialing backend"),
        (504, "error dialing backend: i/o timeout"),
    ];
    let refused = refused.map(|(status, message)| (Forward::Refuse(status, message), message));
    // A node that has vanished answers nothing.
    let vanished = (Forward::Silent, "no port-forward to port 8090 of Pod pantry/store-a after 10 seconds");
    for (last, message) in refused.into_iter().chain([vanished]) {
        let ((former, _), (server, host)) = (registry(), registry());
        let (from, to) = (former.peer.0, server.peer.0);
        let pods = vec![pod("store-a", true), pod("store-b", true)];
        let api = ApiServer::start(resource(), pods, None, move |pod, earlier| match (pod, earlier) {
            ("store-b", _) => Forward::To(to),
            // The first one asks for the room.
            (_, 0..2) => Forward::Closed(from, 9 << 20),
            (_, 2..5) => Forward::Closed(from, 1 << 20),
            _ => last.clone(),
        });
        let config = kubeconfig(shop.folder(), api.address);
        let loaded = output(&mut quinistry(&load(&shop, &config))).unwrap();
        let said = stderr(&loaded);
        assert!(loaded.status.success(), "{said}");
        let warning = "warning: pod store-a on node node-of-store-a failed: ";
        let going_on = "going on with pod store-b on node node-of-store-b";
        assert!(said.contains(warning) && said.contains(message) && said.contains(going_on), "{said}");
        let text = stdout(&loaded);
        assert!(text.contains("(pod store-b on node node-of-store-b): 3 images"), "{text}");
        check(&shop, &host);
    }
}

#[test]
fn a_load_without_room_on_any_node_is_refused_before_its_first_byte() {
    let shop = Shop::new(100_000);
    let load_into = |rooms: [Value; 2]| {
        let stores = rooms.map(|room| {
            ScriptedRegistry::start(move |request| match (request.method.as_str(), request.path()) {
                // As a store that copies.
                ("GET", "/readyz") => Answer::new(503).body(json!({"roomBytes": room}).to_string()),
                ("GET", "/v2/") => Answer::ok("{}"),
                _ => Answer::new(404),
            })
        });
        let addresses = [0, 1].map(|at| stores[at].host.parse().unwrap());
        let pods = vec![pod("store-a", true), pod("store-b", true)];
        let api = ApiServer::start(resource(), pods, None, move |pod, _| {
            Forward::To(addresses[usize::from(pod == "store-b")])
        });
        let said = bad(&load(&shop, &kubeconfig(shop.folder(), api.address)), 1);
        let writes = stores.iter().flat_map(ScriptedRegistry::requests);
        (said, writes.filter(|one| !matches!(one.method.as_str(), "GET" | "HEAD")).count())
    };
    let (said, writes) = load_into([json!(1_u64 << 40), json!(99_000)]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("no room on node node-of-store-b: ") && lines[0].contains("99.0 kB"),
        "{said}"
    );
    assert!(lines[1].contains("1 of 2 stores without room") && lines.len() == 2, "{said}");
    assert_eq!(writes, 0);
    let (said, writes) = load_into([json!(0), json!(0)]);
    assert!(said.contains("node-of-store-a") && said.contains("2 of 2 stores") && writes == 0, "{said}");
    // Stores of earlier versions do not tell.
    let (said, writes) = load_into([json!(1_u64 << 40), Value::Null]);
    assert!(!said.contains("no room") && writes > 0, "{said}");
}

#[test]
fn what_keeps_a_load_from_its_store_is_named() {
    let shop = Shop::new(1000);
    let error = |resource: Value, pods: Vec<Value>, refused, forward: Forward| {
        let api = ApiServer::start(resource, pods, refused, move |_, _| forward.clone());
        let config = kubeconfig(shop.folder(), api.address);
        let error = bad(&load(&shop, &config), 1);
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    let pods = || vec![pod("store-a", true)];
    let garbled = Forward::Garbled;
    let without = json!({"metadata": {"name": "quinistry", "uid": "u"}, "spec": {}});
    let said = error(without, pods(), None, garbled.clone());
    assert!(
        said.contains("Quinistry pantry/quinistry has no store") && said.contains("spec.store"),
        "{said}"
    );
    let said = error(Value::Null, pods(), None, garbled.clone());
    assert!(
        said.contains("no Quinistry pantry/quinistry") && said.contains("`quinistry up --with FILE`"),
        "{said}"
    );
    let said = error(resource(), vec![], None, garbled.clone());
    assert!(said.contains("no pod of the store of pantry/quinistry runs"), "{said}");
    let said = error(resource(), pods(), None, garbled.clone());
    assert!(said.contains("wrong WebSocket handshake"), "{said}");

    let rights = [
        ("/apis/quinistry.dev", "get quinistries.quinistry.dev"),
        ("/api/v1/namespaces/pantry/pods?", "list pods"),
        ("/api/v1/namespaces/pantry/pods/", "get and create pods/portforward"),
    ];
    for (path, right) in rights {
        let said = error(resource(), pods(), Some((path, 403, "no")), garbled.clone());
        let need = format!("your user needs the right to {right} in namespace pantry");
        assert!(
            said.contains("no (403)") && said.contains(&need) && said.contains("docs/bundles.md"),
            "{said}"
        );
    }
    let report = Forward::Report("connection refused");
    let said = error(resource(), pods(), None, report);
    assert!(
        said.contains("(pod store-a on node node-of-store-a): the kubelet says: connection refused; look at"),
        "{said}"
    );
    let said = error(resource(), pods(), None, Forward::Refuse(404, "pods \"store-a\" not found"));
    assert!(
        said.contains("failed to load into the store of pantry/quinistry")
            && said.contains("not found (404)"),
        "{said}"
    );
}

#[test]
fn options_of_registries_and_of_clusters_are_not_mixed() {
    let shop = Shop::new(1000);
    for others in [
        &["localhost:1", "-n", "pantry"][..],
        &["localhost:1", "--context", "a"],
        &["--plain-http"],
        &["--name", "A"],
    ] {
        bad(&[&["load", shop.archive()], others].concat(), 2);
    }
    let said = bad(&["load", shop.archive(), "--kubeconfig", "/nonexistent/config"], 1);
    assert!(said.contains("failed to find a cluster"), "{said}");
}
