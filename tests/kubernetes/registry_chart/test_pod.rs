//! The pod of `helm test`.

use clap::Parser as _;
use quinistry::cli::Cli;
use serde_json::{Value, json};

use super::objects;
use crate::chart::helm::{EVERYTHING_OF_REGISTRY, Helm, REGISTRY, only, parse, template_of};

/// Returns the containers in the order in which they run.
pub fn steps(objects: &[Value]) -> Vec<Value> {
    let spec = &only(objects, "Pod")["spec"];
    let last = spec["containers"].as_array().unwrap();
    assert_eq!(last.len(), 1, "containers beside each other are in no order");
    [spec["initContainers"].as_array().unwrap().as_slice(), last].concat()
}

pub fn arguments(step: &Value) -> Vec<String> {
    serde_json::from_value(step["args"].clone()).unwrap()
}

fn names(objects: &[Value]) -> Vec<String> {
    steps(objects).iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn it_pushes_and_pulls_through_the_service() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &[]);
    let hook =
        json!({"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"});
    assert_eq!(only(&objects, "Pod")["metadata"]["annotations"], hook);
    assert_eq!(names(&objects), ["wait", "push", "pull", "verify"]);
    let image = concat!("shelf-registry.library.svc:5000/helm-test:", env!("CARGO_PKG_VERSION"));
    let steps: Vec<_> = steps(&objects).iter().map(arguments).collect();
    assert_eq!(steps[0], ["probe", "--wait=30", "http://shelf-registry.library.svc:5000/"]);
    assert_eq!(steps[1], ["push", "--self", "--plain-http", image]);
    assert_eq!(steps[2], ["pull", "--plain-http", image, "/pulled/image.tar"]);
    assert_eq!(steps[3], ["verify", "--plain-http", image]);
}

#[test]
fn it_tidies_up_where_deletion_is_permitted() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &["storage.deletes=true"]);
    assert_eq!(names(&objects), ["wait", "push", "pull", "verify", "delete"]);
}

#[test]
fn it_trusts_the_authority_and_never_sees_the_key() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &["tls.existingSecret=certificate,service.port=443"]);
    for step in steps(&objects) {
        let arguments = arguments(&step);
        assert!(arguments.contains(&"--ca=/etc/quinistry/tls/ca.crt".to_owned()), "{arguments:?}");
        assert!(arguments.iter().all(|argument| argument != "--plain-http"), "{arguments:?}");
    }
    let url = "https://shelf-registry.library.svc:443/".to_owned();
    assert!(arguments(&steps(&objects)[0]).contains(&url));
    let volumes = only(&objects, "Pod")["spec"]["volumes"].as_array().unwrap();
    let tls = volumes.iter().find(|volume| volume["name"] == "tls").unwrap();
    assert_eq!(tls["secret"]["items"], json!([{"key": "ca.crt", "path": "ca.crt"}]));

    let public = super::objects(&helm, &["tls.existingSecret=certificate,test.caKey="]);
    for step in steps(&public) {
        assert!(!arguments(&step).iter().any(|argument| argument.starts_with("--ca")));
    }
}

#[test]
fn without_a_login_or_without_writes_it_pulls_the_built_in_image() {
    let Some(helm) = Helm::find() else { return };
    for set in ["auth.htpasswd.existingSecret=users", "readOnly=true"] {
        let objects = objects(&helm, &[set]);
        assert_eq!(names(&objects), ["wait", "verify"], "{set}");
        let image = "shelf-registry.library.svc:5000/quinistry:latest".to_owned();
        assert!(arguments(&steps(&objects)[1]).contains(&image), "{set}");
    }
    let objects = objects(&helm, &["auth.htpasswd.existingSecret=users,test.credentialsSecret=login"]);
    assert_eq!(names(&objects), ["wait", "push", "pull", "verify"]);
    for step in steps(&objects) {
        assert_eq!(step["env"], json!([{"name": "DOCKER_CONFIG", "value": "/etc/quinistry/login"}]));
    }
    let volumes = only(&objects, "Pod")["spec"]["volumes"].as_array().unwrap();
    let login = volumes.iter().find(|volume| volume["name"] == "login").unwrap();
    assert_eq!(login["secret"]["items"], json!([{"key": ".dockerconfigjson", "path": "config.json"}]));
}

#[test]
fn the_program_understands_what_containers_are_started_with() {
    let Some(helm) = Helm::find() else { return };
    let sets = ["storage.deletes=true,tls.existingSecret=certificate"];
    let everything = parse(&helm.text(&template_of(REGISTRY, EVERYTHING_OF_REGISTRY)));
    for objects in [objects(&helm, &[]), objects(&helm, &sets), everything] {
        let mut containers = steps(&objects);
        containers.push(super::container(&objects).clone());
        for container in containers {
            assert!(container["command"].is_null(), "the image names the program by itself");
            let arguments = arguments(&container);
            let parsed = Cli::try_parse_from([&["quinistry".to_owned()], &arguments[..]].concat());
            assert!(parsed.is_ok(), "{arguments:?}: {}", parsed.unwrap_err());
        }
    }
}
