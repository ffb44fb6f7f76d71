//! Images of manifests as charts render them.

use super::*;

fn found(text: &str) -> Found {
    find("x.yaml", text).unwrap()
}

fn images(text: &str) -> Vec<String> {
    found(text).images.iter().map(ToString::to_string).collect()
}

/// Returns a workload whose pod is at `path`, with one image of each kind.
fn workload(version: &str, kind: &str, path: &[&str]) -> String {
    let pod = serde_json::json!({
        "containers": [{"name": "a", "image": "example.com/a:1"}, {"name": "b", "image": "example.com/b:1"}],
        "initContainers": [{"name": "c", "image": "example.com/c:1"}],
        "ephemeralContainers": [{"name": "d", "image": "example.com/d:1"}],
        "volumes": [{"name": "e", "image": {"reference": "example.com/e:1", "pullPolicy": "Always"}}],
    });
    let object = path.iter().rev().fold(pod, |value, key| serde_json::json!({ *key: value }));
    let head = serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n"}});
    let mut object = object;
    for (key, value) in head.as_object().unwrap() {
        object[key] = value.clone();
    }
    object.to_string()
}

#[test]
fn every_kind_that_makes_pods_is_read() {
    let template = &["spec", "template", "spec"][..];
    for (version, kind, path) in [
        ("v1", "Pod", &["spec"][..]),
        ("v1", "PodTemplate", &["template", "spec"]),
        ("v1", "ReplicationController", template),
        ("apps/v1", "Deployment", template),
        ("apps/v1", "StatefulSet", template),
        ("apps/v1beta2", "DaemonSet", template),
        ("apps/v1", "ReplicaSet", template),
        ("batch/v1", "Job", template),
        ("batch/v1", "CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
    ] {
        let found = found(&workload(version, kind, path));
        let mut images: Vec<_> = found.images.iter().map(ToString::to_string).collect();
        images.sort();
        let all = ["a", "b", "c", "d", "e"].map(|name| format!("example.com/{name}:1"));
        assert_eq!((images.as_slice(), found.others.as_slice()), (&all[..], &[][..]), "{kind}");
    }
}

#[test]
fn reads_lists_and_several_documents() {
    let text = "# Source: shop/templates/a.yaml\n%YAML 1.2\n---\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n  \
                - image: a\n---\n---  # nothing\n--- \napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: \
                Pod\n  spec: {containers: [{image: b:1}]}\n---";
    assert_eq!(images(text), ["docker.io/library/a:latest", "docker.io/library/b:1"]);
    assert_eq!(images(""), [""; 0]);
    assert_eq!(images("# nothing\n"), [""; 0]);
}

#[test]
fn a_document_may_end_by_dots_and_the_next_one_begin_by_directives() {
    let pod =
        |image: &str| format!("apiVersion: v1\nkind: Pod\nspec: {{containers: [{{image: '{image}'}}]}}\n");
    let text = format!(
        "%YAML 1.2\n---\n{}...\n# next\n%YAML 1.2\n---\n{}... \n...\n%YAML 1.2\n---\n{}...\n",
        pod("a:1"),
        pod("b:1"),
        pod("c:1")
    );
    assert_eq!(images(&text), ["a", "b", "c"].map(|name| format!("docker.io/library/{name}:1")));
    let error = find("x", &format!("{text}---\na: [\n")).unwrap_err();
    assert!((22..=23).contains(&error.line), "{error}");
}

#[test]
fn items_of_a_list_have_its_kind() {
    let item = "metadata: {name: x}, spec: {template: {spec: {containers: [{image: a:1}]}}}";
    let text = format!("{{apiVersion: apps/v1, kind: DeploymentList, items: [{{{item}}}]}}");
    assert_eq!(images(&text), ["docker.io/library/a:1"]);
    let text = "{apiVersion: v1, kind: PodList, items: [{spec: {containers: [{image: a:1}]}}]}";
    assert_eq!(images(text), ["docker.io/library/a:1"]);
    let text =
        format!("{{apiVersion: v1, kind: List, items: [{{apiVersion: apps/v1, kind: Deployment, {item}}}]}}");
    assert_eq!(images(&text), ["docker.io/library/a:1"]);
}

#[test]
fn a_line_of_dashes_in_a_text_of_several_lines_is_not_the_end_of_a_document() {
    let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    x\n    ---\n    image: no\n---\napiVersion: v1\nkind: Pod\n\
                spec: {containers: [{image: a:1}]}\n";
    assert_eq!(images(text), ["docker.io/library/a:1"]);
}

#[test]
fn fields_elsewhere_are_reported_with_their_place_and_not_taken() {
    let text = "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec:\n  image: ghcr.io/pg:17\n  \
                other: [{image: b}]\n  schema: {properties: {image: {type: string}}}\n  bad: {image: 'not a name'}\n";
    let found = found(text);
    assert_eq!(found.images, []);
    let others: Vec<_> = found.others.iter().map(ToString::to_string).collect();
    assert_eq!(
        others,
        [
            "'ghcr.io/pg:17' in x.yaml: Cluster/shop spec.image",
            "'b' in x.yaml: Cluster/shop spec.other[0].image"
        ]
    );
}

#[test]
fn fields_whose_names_end_like_those_of_images_are_reported() {
    let text = "kind: Cluster\nmetadata: {name: x}\nspec:\n  imageName: ghcr.io/pg:17\n  sidecarImage: a/b\n  IMAGE: c\n  \
                images: d\n  imagePullPolicy: Always\n  baseImage: 'not a name'\n  env:\n  - {name: A, value: \
                'ghcr.io/e:1'}\n  - {name: B, value: ghcr.io/e}\n  - {name: C, value: 'e:1'}\n  - {name: D, value: \
                'https://ghcr.io/e:1'}\n";
    let found = found(text);
    let fields: Vec<_> = found.others.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(fields, ["spec.IMAGE", "spec.env[0].value", "spec.imageName", "spec.sidecarImage"]);
}

#[test]
fn images_in_the_environment_of_a_pod_are_reported() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{image: 'a:1', env: [{name: A, value: \
                'ghcr.io/e:1'}]}]}}";
    let found = found(text);
    assert_eq!(found.images.len(), 1);
    assert_eq!(found.others[0].field, "spec.containers[0].env[0].value");
}

#[test]
fn a_kind_of_another_group_makes_no_pods() {
    let found = found(&workload("example.com/v1", "Deployment", &["spec", "template", "spec"]));
    assert_eq!((found.images.len(), found.others.len()), (0, 4));
}

#[test]
fn malformed_images_of_pods_are_reported_and_empty_ones_are_not() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{image: '{{ .Values.x }}'}, {image: ''}, \
                {name: x}]}}";
    let found = found(text);
    assert_eq!(found.malformed.len(), 1);
    assert_eq!(found.malformed[0].to_string(), "'{{ .Values.x }}' in x.yaml: Pod/p spec.containers[0].image");
    assert_eq!(found.images, []);
}

#[test]
fn an_error_has_its_line_in_the_whole_text() {
    let error = find("x", "a: 1\n---\nb: 1\n---\nc: [\n").unwrap_err();
    assert!((5..=6).contains(&error.line), "{error}");
}

#[test]
fn the_limits_of_the_parser_hold_for_each_document() {
    let document = format!("---\n{}", "- {a: b, c: d}\n".repeat(20_000));
    assert!(find("x", &document.repeat(3)).is_ok());
}
