//! Configurations as they are found in the world, written for this test, and the findings about each.

use std::fmt::Write as _;

use super::{lines, load_text};

const SAMPLES: &[(&str, &str)] = &[
    ("registry-2", include_str!("samples/registry-2.yml")),
    ("registry-3", include_str!("samples/registry-3.yml")),
    ("s3", include_str!("samples/s3.yml")),
    ("htpasswd", include_str!("samples/htpasswd.yml")),
    ("token", include_str!("samples/token.yml")),
    ("proxy", include_str!("samples/proxy.yml")),
    ("notifications", include_str!("samples/notifications.yml")),
    ("gitlab", include_str!("samples/gitlab.yml")),
    ("harbor", include_str!("samples/harbor.yml")),
    ("openshift", include_str!("samples/openshift.yml")),
    ("compose", include_str!("samples/compose.yml")),
];

#[test]
fn the_findings_about_each_sample_are_as_recorded() {
    let mut found = String::new();
    for (name, text) in SAMPLES {
        let loaded = load_text(text, &[]);
        let verdict = if loaded.config.is_some() { "accepted" } else { "refused" };
        writeln!(found, "{name}: {verdict}").unwrap();
        for line in lines(&loaded) {
            writeln!(found, "  {line}").unwrap();
        }
    }
    let recorded = include_str!("samples/findings.txt");
    if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tests/samples/findings.txt");
        std::fs::write(path, &found).unwrap();
    }
    assert_eq!(found, recorded, "run this test with QUINISTRY_UPDATE_GOLDEN=1 if the change is wanted");
}
