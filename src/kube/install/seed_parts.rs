//! Writes the seed parts: creates missing ones and replaces wrong ones, several at a time. (Client required.)
//!
//! Existing parts are fetched and compared: any user can delete an immutable `ConfigMap` and create another
//! one.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::de::IgnoredAny;

use super::api::{CONFIG_MAP, Cluster};
use super::error::InstallError;
use crate::api::names::KIND;
use crate::api::names::annotations::PART_COUNT;
use crate::api::names::labels::SEED;
use crate::api::types::{self, Metadata as _};
use crate::seed::{SeedPart, SplitExecutable};

/// Number of concurrent writes. Each is a megabyte, and etcd writes one after the other.
const CONCURRENT_WRITES: usize = 4;

/// Number of times that a part is read again while other writers change it.
const MAX_WRITE_ATTEMPTS: usize = 5;

/// Writes all parts that are missing or wrong, and returns their number.
pub(super) async fn write_all(
    cluster: &Cluster,
    split: &SplitExecutable,
    namespace: &str,
    owner: &OwnerReference,
    mut report: impl FnMut(usize, usize),
) -> Result<usize, InstallError> {
    // Not a list, which would contain their data. The stub is written first: without it no part exists, and
    // each is created without reading.
    let is_there = cluster
        .get::<types::Object>(CONFIG_MAP, namespace, &split.names().of(SeedPart::Stub))
        .await?
        .is_some();
    let all = split.share_count() + 1;
    let mut each =
        stream::iter(split.parts().map(|part| write_one(cluster, split, part, namespace, owner, is_there)))
            .buffer_unordered(CONCURRENT_WRITES);
    let (mut seen, mut written) = (0, 0);
    while let Some(wrote) = each.try_next().await? {
        seen += 1;
        written += usize::from(wrote);
        report(seen, all);
    }
    Ok(written)
}

/// Returns true if all parts exist; their content is not compared.
pub(super) async fn exist(
    cluster: &Cluster,
    split: &SplitExecutable,
    namespace: &str,
) -> Result<bool, InstallError> {
    let label = format!("{SEED}={}", split.names().seed());
    let found = cluster.names(CONFIG_MAP, namespace, &label).await?;
    let is_there = |part| {
        let name = split.names().of(part);
        found.iter().any(|one| one.metadata.name() == name && !one.metadata.is_terminating())
    };
    Ok(split.parts().all(is_there))
}

/// Writes one part, and returns true if that was necessary. `may_exist`: read the part before creating it.
async fn write_one(
    cluster: &Cluster,
    split: &SplitExecutable,
    part: SeedPart,
    namespace: &str,
    owner: &OwnerReference,
    mut may_exist: bool,
) -> Result<bool, InstallError> {
    let name = split.names().of(part);
    let wanted = split.config_map(part, namespace, Some(owner.clone()))?;
    let body = serde_json::to_vec(&wanted).expect("a ConfigMap is JSON");
    // In the type in which the existing one is read.
    let wanted: types::ConfigMap = serde_json::from_slice(&body).expect("a ConfigMap is one");
    let mut tries = 0;
    loop {
        if may_exist {
            let found: Option<types::ConfigMap> = cluster.get(CONFIG_MAP, namespace, &name).await?;
            match found {
                Some(found) if matches_wanted(&found, &wanted) => return Ok(false),
                Some(found) => {
                    let owners = found.metadata.owners();
                    let is_owned = owners.iter().any(|owner| owner.kind == KIND);
                    if !is_owned && found.metadata.label(SEED).is_none() {
                        return Err(InstallError::Refused(format!(
                            "ConfigMap {namespace}/{name} has the name of a part of the executable and was not made by \
                             `up`; delete it, or name another --namespace"
                        )));
                    }
                    cluster.delete(CONFIG_MAP, namespace, &found.metadata).await?;
                }
                None => {}
            }
        }
        match cluster.create::<IgnoredAny>(CONFIG_MAP, namespace, &name, body.clone()).await {
            Ok(_) => return Ok(true),
            // The part exists: from an earlier run, or from another writer.
            Err(error) if error.is_conflict() && tries < MAX_WRITE_ATTEMPTS => {
                tries += 1;
                may_exist = true;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns true if content, labels and owner are as wanted.
fn matches_wanted(found: &types::ConfigMap, wanted: &types::ConfigMap) -> bool {
    let owner = |map: &types::ConfigMap| map.metadata.owners().first().map(|owner| owner.uid.clone());
    found.immutable
        && !found.metadata.is_terminating()
        && found.binary_data == wanted.binary_data
        && wanted
            .metadata
            .labels
            .iter()
            .flatten()
            .all(|(key, value)| found.metadata.label(key) == Some(value))
        && found.metadata.annotation(PART_COUNT) == wanted.metadata.annotation(PART_COUNT)
        && owner(found) == owner(wanted)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use k8s_openapi::ByteString;

    use super::*;

    fn map(owner: &str, content: &'static [u8]) -> types::ConfigMap {
        let split =
            SplitExecutable::new("larder", [Bytes::from_static(content)].into(), Bytes::new()).unwrap();
        let owner = OwnerReference { uid: owner.into(), ..OwnerReference::default() };
        let map = split.config_map(SeedPart::Share(0), "pantry", Some(owner)).unwrap();
        serde_json::from_value(serde_json::to_value(map).unwrap()).unwrap()
    }

    #[test]
    fn what_differs_in_content_label_or_owner_is_made_anew() {
        let wanted = map("1", b"flour");
        assert!(matches_wanted(&wanted, &wanted));
        // Other labels may be added.
        let mut more = wanted.clone();
        more.metadata.labels.get_or_insert_default().insert("shelf".into(), "2".into());
        assert!(matches_wanted(&more, &wanted));
        let mut altered = wanted.clone();
        altered.binary_data.insert("piece".into(), ByteString(b"salt".to_vec()));
        assert!(!matches_wanted(&altered, &wanted));
        assert!(!matches_wanted(&map("2", b"flour"), &wanted), "of a resource that is gone");
        assert!(!matches_wanted(&types::ConfigMap { immutable: false, ..wanted.clone() }, &wanted));
        let mut unlabelled = wanted.clone();
        unlabelled.metadata.labels = None;
        assert!(!matches_wanted(&unlabelled, &wanted));
    }
}
