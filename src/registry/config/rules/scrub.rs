//! Rules of the scrub.

use std::path::PathBuf;
use std::time::Duration;

use quinistry_oci::is_host;

use super::super::findings::Findings;
use super::super::model::HealFrom;
use super::super::tree::ConfigNode;
use super::super::values;

/// Shortest interval, but for none: a number without a unit means nanoseconds, and a scrub that never pauses keeps a disk
/// busy.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the section of the scrub.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    const INTERVAL: &str = "quinistry.scrub.interval";
    const RATE: &str = "quinistry.scrub.rate";
    const HEAL_FROM: &str = "quinistry.scrub.healfrom";
    if let Some(node) = tree.at(INTERVAL)
        && let Ok(interval) = values::duration(node)
        && !interval.duration.is_zero()
        && interval.duration < MIN_INTERVAL
    {
        findings.error(&node.origin, INTERVAL, "is shorter than a second; write 0 for no rounds".into());
    }
    if let Some(node) = tree.at(RATE)
        && let Ok(0) = values::size(node)
    {
        let message = "is 0, so that nothing would be read; set quinistry.scrub.interval: 0 for no rounds";
        findings.error(&node.origin, RATE, message.into());
    }
    if let Some(node) = tree.at(HEAL_FROM) {
        for (number, source) in sources(node).into_iter().enumerate() {
            if let Err(message) = source {
                findings.error(&node.origin, &format!("{HEAL_FROM}[{number}]"), message.into());
            }
        }
    }
}

/// Returns the sources of a list.
pub(in super::super) fn sources(node: &ConfigNode) -> Vec<Result<HealFrom, &'static str>> {
    values::texts(node).unwrap_or_default().iter().map(|text| source(text)).collect()
}

fn source(text: &str) -> Result<HealFrom, &'static str> {
    if ["s3://", "gs://", "az://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(HealFrom::Bucket(text.into()));
    }
    if text.starts_with('/') {
        return Ok(HealFrom::Folder(PathBuf::from(text)));
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("docker://"));
    let rest = rest.ok_or(
        "is neither https://HOST, docker://HOST, the URL of a bucket, nor the absolute path of a folder",
    )?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("holds credentials; run `quinistry login` for the host");
    }
    let path = path.trim_matches('/');
    let is_path = path.is_empty() || path.parse::<quinistry_oci::RepositoryName>().is_ok();
    if !is_host(host) || !is_path {
        return Err("has no valid host, or a path that cannot stand before the name of a repository");
    }
    Ok(HealFrom::Registry { host: host.into(), path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_registries_buckets_and_folders() {
        let registry =
            |host: &str, path: &str| Ok(HealFrom::Registry { host: host.into(), path: path.into() });
        for (text, expected) in [
            ("https://registry.example", registry("registry.example", "")),
            ("https://registry.example:5000/", registry("registry.example:5000", "")),
            ("docker://localhost:5000/mirror/docker.io/", registry("localhost:5000", "mirror/docker.io")),
            ("s3://bucket/prefix", Ok(HealFrom::Bucket("s3://bucket/prefix".into()))),
            ("/srv/registry", Ok(HealFrom::Folder("/srv/registry".into()))),
        ] {
            assert_eq!(source(text), expected, "{text}");
        }
        for text in [
            "",
            "registry.example",
            "http://registry.example",
            "https://",
            "https://a b",
            "https://u:p@host",
            "https://host/UPPER",
            "./folder",
        ] {
            assert!(source(text).is_err(), "{text}");
        }
    }
}
