//! A real helm, version 4, and what it renders.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::skip;

/// The version of helm that `.ci/tools` builds.
pub const VERSION: &str = "4.3.1";

/// The operator's chart.
pub const OPERATOR: &str = "charts/quinistry";

/// The registry's chart.
pub const REGISTRY: &str = "charts/quinistry-registry";

/// All charts, each with values that set everything.
pub const CHARTS: [(&str, &str); 2] = [(OPERATOR, EVERYTHING[1]), (REGISTRY, EVERYTHING_OF_REGISTRY[1])];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// YAML of any number of documents.
pub fn parse(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// A file of the repository as one YAML document.
pub fn parse_file(path: impl AsRef<Path>) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    parse(&text).pop().unwrap()
}

/// The program, with folders of its own, so that nothing of the user's has a say.
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    /// From PATH if it is of version 4, or where `.ci/tools` put it. None: the test is skipped, and says so.
    pub fn find() -> Option<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let built = cache.map(|cache| cache.join(format!("quinistry/tools/helm-{VERSION}/helm")));
        for program in [Some(PathBuf::from("helm")), built].into_iter().flatten() {
            let helm = Self { program, home: TempDir::new().unwrap() };
            if helm
                .command(&["version", "--short"])
                .output()
                .is_ok_and(|output| output.stdout.starts_with(b"v4."))
            {
                return Some(helm);
            }
        }
        skip::missing("helm 4 (.ci/tools builds one)");
        None
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", "/dev/null").current_dir(root());
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.home.path().join(folder));
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Standard output of a command that succeeds.
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "helm {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that fails.
    pub fn refusal(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "helm {args:?} succeeds");
        String::from_utf8(output.stderr).unwrap()
    }

    /// `helm template`, as release `shelf` in namespace `library`: neither is the product's name, so that one
    /// taken for the other is seen.
    pub fn template(&self, args: &[&str]) -> String {
        self.text(&template(args))
    }

    /// Returns the objects that the chart renders with `args`.
    pub fn objects(&self, args: &[&str]) -> Vec<Value> {
        parse(&self.template(args))
    }
}

/// The arguments of [`Helm::template`].
pub fn template<'a>(args: &[&'a str]) -> Vec<&'a str> {
    template_of(OPERATOR, args)
}

/// The arguments that render a chart as [`Helm::template`] does.
pub fn template_of<'a>(chart: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["template", "shelf", chart, "--namespace", "library"], args].concat()
}

/// All that can be switched on.
pub const EVERYTHING: &[&str] = &["--values", "tests/golden/chart/everything.values.yaml"];

/// All that can be switched on in the registry's chart.
pub const EVERYTHING_OF_REGISTRY: &[&str] =
    &["--values", "tests/golden/registry-chart/everything.values.yaml"];

/// The definitions: their copies in the chart, and their files.
pub const DEFINITION_FILES: [(&str, &str); 2] = [
    ("files/crd.yaml", "crds/quinistries.quinistry.dev.yaml"),
    ("files/crd-bundles.yaml", "crds/bundles.quinistry.dev.yaml"),
];

/// The objects of one kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The only object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}
