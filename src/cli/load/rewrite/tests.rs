//! Texts in all notations.

use super::*;

/// Rewrites images of `ghcr.io` to short names.
fn plan(text: &str) -> Rewriting {
    let found = manifests::find("x", text).unwrap();
    Rewriting::plan(&found.places, |image| {
        (image.host() == "ghcr.io").then(|| format!("[::1]:5000/{}@new", image.repository()))
    })
}

fn rewrite(text: &str) -> Result<String, RewriteError> {
    plan(text).apply(text)
}

#[test]
fn every_byte_but_the_names_of_images_stays() {
    let text = "\u{feff}# ä comment: ghcr.io/a:1\r\n---\napiVersion: apps/v1\nkind: Deployment # ghcr.io/a:1\n\
                metadata: {name:   shop, labels: {image-of: \"ghcr.io/a:1\"}}\nspec:\n  template:\n    spec:\n      \
                containers:\n      -   image:   ghcr.io/a:1   # the shop\n          name: a\n      - {name: b, image: \
                'ghcr.io/b:1'}\n      - name: c\n        \"image\": \"ghcr.io/c:1\"\n      initContainers: [{image: \
                !!str ghcr.io/d:1, name: ghcr.io/d:1}]\n      volumes: [{name: e, image: {reference: \
                ghcr.io/e:1}}]\n\n...\n# between\n---\nkind: List\nitems:\n- {kind: Pod, spec: {containers: [{image: \
                ghcr.io/f:1}]}}\n---\n---\nkind: Cluster\nspec:\n  imageName: ghcr.io/g:1\n  other: ghcr.io/g:1\n";
    let mut wanted = text.to_owned();
    for (former, new) in [
        ("image:   ghcr.io/a:1 ", "image:   '[::1]:5000/a@new' "),
        ("image: 'ghcr.io/b:1'", "image: '[::1]:5000/b@new'"),
        ("\"image\": \"ghcr.io/c:1\"", "\"image\": \"[::1]:5000/c@new\""),
        ("!!str ghcr.io/d:1", "!!str '[::1]:5000/d@new'"),
        ("reference: ghcr.io/e:1", "reference: '[::1]:5000/e@new'"),
        ("image: ghcr.io/f:1", "image: '[::1]:5000/f@new'"),
        ("imageName: ghcr.io/g:1", "imageName: '[::1]:5000/g@new'"),
    ] {
        assert_eq!(wanted.matches(former).count(), 1, "{former}");
        wanted = wanted.replace(former, new);
    }
    assert_eq!(rewrite(text).unwrap(), wanted);
    let named: Vec<_> = plan(text).replaced_by_name.iter().map(ToString::to_string).collect();
    assert_eq!(named, ["'ghcr.io/g:1' in x: Cluster/ spec.imageName"]);
}

#[test]
fn names_that_aliases_repeat_are_replaced_where_they_are_images() {
    let text = "kind: Pod\nspec:\n  containers:\n  - image: &a ghcr.io/a:1\n  - image: *a # again\n  - &c {image: ghcr.io/c:1}\n  - \
                *c\n";
    let wanted = "kind: Pod\nspec:\n  containers:\n  - image: &a '[::1]:5000/a@new'\n  - image: '[::1]:5000/a@new' # again\n  - \
                  &c {image: '[::1]:5000/c@new'}\n  - *c\n";
    assert_eq!(rewrite(text).unwrap(), wanted);
    let elsewhere = "kind: X\n---\nkind: Pod\nmetadata: {labels: {a: *a}}\nspec: {containers: [{image: &a ghcr.io/a:1}]}\n";
    assert!(manifests::find("x", elsewhere).is_err(), "an alias follows its anchor");
    let elsewhere = "kind: X\n---\nkind: Pod\nspec: {containers: [{image: &a ghcr.io/a:1}]}\nmetadata: {labels: {a: *a}}\n";
    assert_eq!(rewrite(elsewhere), Err(RewriteError::OtherValues { number: 2 }));
}

#[test]
fn names_in_several_lines_are_refused() {
    for notation in [
        ">-\n      ghcr.io/a:1\n",
        "|-\n      ghcr.io/a:1\n",
        "|-\r\n      ghcr.io/a:1\r\n",
        "\"ghcr.io\\\n      /a:1\"\n",
    ] {
        let text = format!("kind: Pod\nspec:\n  containers:\n  - image: {notation}    name: a\n");
        let found = manifests::find("x", &text).unwrap();
        assert_eq!(found.places.len(), 1, "{text}");
        let field = "'ghcr.io/a:1' in x: Pod/ spec.containers[0].image".to_owned();
        assert_eq!(rewrite(&text), Err(RewriteError::SeveralLines { field }), "{text}");
    }
}

#[test]
fn fields_of_other_objects_need_a_tag_or_a_digest_and_are_no_labels() {
    let text = "kind: Cluster\nmetadata:\n  labels: {image: ghcr.io/a}\n  annotations: {last-image: 'ghcr.io/a:1'}\nspec:\n  \
                image: ghcr.io/a\n  otherImage: ghcr.io/a:1\n  selector: {matchLabels: {image: \"ghcr.io/a:1\"}}\n  \
                template: {metadata: {annotations: {image: ghcr.io/a:1}}}\n";
    let wanted = text.replace("otherImage: ghcr.io/a:1", "otherImage: '[::1]:5000/a@new'");
    assert_eq!(rewrite(text).unwrap(), wanted);
    let rewriting = plan(text);
    assert_eq!((rewriting.replaced_by_name.len(), rewriting.left.len()), (1, 0));
    let doubtful: Vec<_> = rewriting.doubtful.iter().map(ToString::to_string).collect();
    assert_eq!(
        doubtful,
        [
            "'ghcr.io/a:1' in x: Cluster/ metadata.annotations.last-image",
            "'ghcr.io/a' in x: Cluster/ metadata.labels.image",
            "'ghcr.io/a' in x: Cluster/ spec.image",
            "'ghcr.io/a:1' in x: Cluster/ spec.selector.matchLabels.image",
            "'ghcr.io/a:1' in x: Cluster/ spec.template.metadata.annotations.image",
        ]
    );
}

#[test]
fn images_that_are_not_there_are_listed() {
    let text = "kind: Pod\nspec: {containers: [{image: nginx}, {image: ghcr.io/a:1}, {image: ''}]}\n---\nkind: X\nimage: y\n";
    let rewriting = plan(text);
    let list = |fields: &[ImageField]| fields.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(list(&rewriting.missing), ["'nginx' in x: Pod/ spec.containers[0].image"]);
    assert_eq!(list(&rewriting.left), ["'y' in x: X/ image"]);
    assert!(rewriting.replaced_by_name.is_empty());
}
