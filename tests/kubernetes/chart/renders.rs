//! The renders, as text that is reviewed. `QUINISTRY_UPDATE_GOLDEN=1` writes them again.

use std::fs;

use crate::chart::helm::{EVERYTHING, Helm, root};

/// Placeholder for the version, so that a release changes no golden file.
const VERSION: &str = "VERSION";

#[test]
fn renders_are_as_reviewed() {
    let Some(helm) = Helm::find() else { return };
    golden(&helm, "default", &[]);
    golden(&helm, "everything", EVERYTHING);
    golden(&helm, "two-operators", &["--set", "replicas=2"]);
    golden(&helm, "watch-namespace", &["--set", "watchNamespace=reading-room,networkPolicy.enabled=true"]);
    golden(&helm, "stores", &["--set", "watchNamespace=reading-room,store.enabled=true"]);
}

fn golden(helm: &Helm, name: &str, args: &[&str]) {
    compare(&format!("tests/golden/chart/{name}.yaml"), &shorten(&helm.template(args)));
}

/// Compares a render with a golden file, or writes the file.
pub fn compare(path: &str, rendered: &str) {
    let rendered = rendered.replace(env!("CARGO_PKG_VERSION"), VERSION);
    let path = root().join(path);
    if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() {
        fs::write(&path, rendered).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if rendered != expected {
        let line = 1 + rendered.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
        panic!(
            "{} is not what the chart renders, from line {line} on: {:?} where {:?} is expected. \
             If that is meant, run this test with QUINISTRY_UPDATE_GOLDEN=1 and look at the difference",
            path.display(),
            rendered.lines().nth(line - 1),
            expected.lines().nth(line - 1),
        );
    }
}

/// Without the definition's content, which stands in `crds/`; that it is the same is another test.
fn shorten(rendered: &str) -> String {
    let document = |text: &str| {
        let crd = text.contains("\nkind: CustomResourceDefinition\n");
        match text.split_once("\nspec:\n") {
            Some((head, _)) if crd => format!("{head}\nspec: {{}} # as in crds/\n"),
            _ => text.to_owned(),
        }
    };
    rendered.split("---\n").map(document).collect::<Vec<_>>().join("---\n")
}
