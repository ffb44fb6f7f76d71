//! The charts as OCI artifacts.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::scripts::{TAG, good, outcome, path_with, quinistry, refusal, registry, script};

/// The version of helm that `.ci/tools` builds.
const HELM: &str = "4.3.1";

/// Gives a command helm, with folders of its own.
fn with_helm<'a>(command: &'a mut Command, path: &OsStr, home: &Path) -> &'a mut Command {
    for (variable, folder) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(folder));
    }
    command.env("PATH", path).env("DOCKER_CONFIG", "/nonexistent")
}

/// All charts, in the order in which the script packages them.
const CHARTS: [&str; 2] = ["quinistry", "quinistry-registry"];

#[test]
fn packages_are_pulled_as_they_were_pushed() {
    let Some(path) = path_with("helm", HELM, "") else { return };
    let home = TempDir::new().unwrap();
    let dist = home.path().join("dist");
    let mut package = script("chart", &["package", dist.to_str().unwrap(), TAG]);
    let printed = good(with_helm(&mut package, &path, home.path()));
    let names = CHARTS.map(|chart| format!(concat!("{}-", env!("CARGO_PKG_VERSION"), ".tgz"), chart));
    let expected = names.each_ref().map(|name| dist.join(name));
    assert_eq!(printed.lines().map(Path::new).collect::<Vec<_>>(), expected);

    let (_server, host) = registry();
    let pulled = home.path().join("pulled");
    fs::create_dir(&pulled).unwrap();
    for ((chart, name), packed) in CHARTS.iter().zip(&names).zip(expected) {
        let mut push = script("chart", &["push", packed.to_str().unwrap(), &format!("{host}/charts")]);
        good(with_helm(&mut push, &path, home.path()));
        let tags = quinistry(&["tags", &format!("{host}/charts/{chart}")]);
        assert_eq!(tags, concat!(env!("CARGO_PKG_VERSION"), "\n"));

        let mut pull = Command::new("helm");
        pull.args(["pull", &format!("oci://{host}/charts/{chart}"), "--plain-http", "--destination"])
            .arg(&pulled);
        good(with_helm(&mut pull, &path, home.path()));
        assert!(fs::read(pulled.join(name)).unwrap() == fs::read(packed).unwrap());
    }
}

#[test]
fn a_chart_of_another_version_is_not_packaged() {
    let folder = TempDir::new().unwrap();
    let error = refusal(&mut script("chart", &["package", folder.path().to_str().unwrap(), "v99.0.0"]));
    assert!(error.contains("the tag is v99.0.0, but the version is "), "{error}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_push_that_fails_fails_the_script() {
    let Some(path) = path_with("helm", HELM, "") else { return };
    let home = TempDir::new().unwrap();
    let mut push = script("chart", &["push", "/nonexistent.tgz", "localhost:1/charts"]);
    assert_ne!(outcome(with_helm(&mut push, &path, home.path())).code, Some(0));
}
