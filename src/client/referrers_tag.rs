//! Tag under which clients list referrers where the registry does not. distribution-spec, sections
//! Referrers Tag Schema, Pushing Manifests with Subject and Deleting Manifests.
//!
//! Registries cannot change a tag on the condition that it is unchanged. A list that another client has
//! changed in between is read again and changed again; a change between the last read and the write stays
//! unnoticed.

use std::collections::BTreeSet;

use quinistry_oci::{Descriptor, Digest, ImageReference, Reference, Tag, media_type, to_json};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Client, ClientError, Document, MAX_MANIFEST_BYTES, Manifest, retry};

/// Length of the hex part of such a tag; a longer one is cut off (distribution-spec).
const MAX_TAG_HEX_CHARS: usize = 64;

/// Change of the list.
#[derive(Clone, Copy)]
enum ListChange<'a> {
    Add(&'a Descriptor),
    Remove(&'a Digest),
}

impl Client {
    /// Returns the referrers that the tag lists; none if the tag does not exist or is not a list.
    pub(super) async fn tagged_referrers(
        &self,
        image: &ImageReference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ClientError> {
        match self.list_of(&tag_of(image, subject)).await?.map(|list| list.document()).transpose()? {
            Some(Document::Index(index)) => Ok(index.manifests),
            _ => Ok(Vec::new()),
        }
    }

    /// Adds a manifest to the list of its subject's referrers.
    pub(super) async fn add_referrer(
        &self,
        image: &ImageReference,
        subject: &Digest,
        referrer: &Manifest,
    ) -> Result<(), ClientError> {
        self.change(&tag_of(image, subject), ListChange::Add(&referrer.as_referrer())).await
    }

    /// Removes a deleted manifest from the list of its subject's referrers, if there is such a list.
    pub(super) async fn remove_referrer(
        &self,
        image: &ImageReference,
        subject: &Digest,
        referrer: &Digest,
    ) -> Result<(), ClientError> {
        self.change(&tag_of(image, subject), ListChange::Remove(referrer)).await
    }

    async fn list_of(&self, tag: &ImageReference) -> Result<Option<Manifest>, ClientError> {
        match self.manifest(tag).await {
            Ok(list) => Ok(Some(list)),
            Err(ClientError::Status { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn change(&self, tag: &ImageReference, change: ListChange<'_>) -> Result<(), ClientError> {
        let protocol = |reason: &str| {
            let what = format!("update the list of referrers {tag}");
            ClientError::Protocol { what, reason: reason.into() }
        };
        let mut gone = BTreeSet::new();
        for attempt in 1.. {
            let old = self.list_of(tag).await?;
            let old = old.as_ref().map(|list| list.bytes.as_ref());
            // Read after every write, too: another client may have overwritten it with an older list.
            let Some(new) = changed(old, change, &gone).map_err(protocol)? else { return Ok(()) };
            if new.len() as u64 > MAX_MANIFEST_BYTES {
                let what = format!("update the list of referrers {tag}");
                return Err(ClientError::TooLarge { what, limit: MAX_MANIFEST_BYTES });
            }
            let list = Manifest::new(Digest::sha256(&new), media_type::OCI_INDEX, new.into())
                .map_err(|reason| protocol(&reason))?;
            match self.put_manifest(tag, &list).await {
                Err(error @ ClientError::Status { .. }) if gone.is_empty() => {
                    // distribution refuses a list with an entry whose manifest was deleted.
                    gone = self.missing(tag, &list).await?;
                    if gone.is_empty() {
                        return Err(error);
                    }
                    continue;
                }
                put => put?,
            };
            if attempt > 1 {
                let Some(wait) = retry::wait(attempt, None) else { break };
                tokio::time::sleep(wait).await;
            }
        }
        Err(protocol("the list does not stay as it was written; if other clients write it too, try again"))
    }

    /// Returns the entries of a list that the repository does not have.
    async fn missing(&self, tag: &ImageReference, list: &Manifest) -> Result<BTreeSet<Digest>, ClientError> {
        let mut missing = BTreeSet::new();
        if let Document::Index(index) = list.document()? {
            for entry in index.manifests {
                if self.head_manifest(&tag.with_digest(entry.digest.clone()), "pull").await?.is_none() {
                    missing.insert(entry.digest);
                }
            }
        }
        Ok(missing)
    }
}

/// Returns the tag for a subject in the image's repository.
fn tag_of(image: &ImageReference, subject: &Digest) -> ImageReference {
    let hex = &subject.hex()[..subject.hex().len().min(MAX_TAG_HEX_CHARS)];
    let tag: Tag = format!("{}-{hex}", subject.algorithm().as_str()).parse().expect("such a name is a tag");
    ImageReference::new(image.host(), image.repository().clone(), Reference::Tag(tag))
        .expect("the host comes from a reference")
}

/// Returns the list after a change, without entries that are gone, and with all else in it unchanged;
/// `None` if the list needs no change.
fn changed(
    old: Option<&[u8]>,
    change: ListChange<'_>,
    gone: &BTreeSet<Digest>,
) -> Result<Option<Vec<u8>>, &'static str> {
    let mut list = match (old, change) {
        (Some(old), _) => serde_json::from_slice(old).map_err(|_| "the tag is not JSON")?,
        (None, ListChange::Add(_)) => {
            json!({"manifests": [], "mediaType": media_type::OCI_INDEX, "schemaVersion": 2})
        }
        (None, ListChange::Remove(_)) => return Ok(None),
    };
    let is_image = list.get("config").is_some() || list.get("layers").is_some();
    let entries = match list.get_mut("manifests") {
        Some(Value::Array(entries)) => entries,
        // Go writes an empty list as null.
        Some(null @ Value::Null) if !is_image => {
            *null = json!([]);
            null.as_array_mut().expect("just made one")
        }
        _ => return Err("the tag is not a list of referrers; delete it, or give its manifest another tag"),
    };
    match change {
        ListChange::Add(referrer) => {
            // Another client's entry stays, as it may have fields that are unknown here.
            if entries.iter().any(|entry| entry["digest"] == referrer.digest.as_str()) {
                return Ok(None);
            }
            entries.push(serde_json::to_value(referrer).expect("a descriptor is strings, numbers and maps"));
        }
        ListChange::Remove(digest) => {
            let before = entries.len();
            entries.retain(|entry| entry["digest"] != digest.as_str());
            if entries.len() == before {
                return Ok(None);
            }
        }
    }
    entries.retain(|entry| !gone.iter().any(|gone| entry["digest"] == gone.as_str()));
    Ok(Some(to_json(&list)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] =
        br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

    fn changed(old: Option<&[u8]>, change: ListChange<'_>) -> Result<Option<Vec<u8>>, &'static str> {
        super::changed(old, change, &BTreeSet::new())
    }

    fn referrer() -> Descriptor {
        let artifact_type = Some("application/x".into());
        Descriptor { artifact_type, ..Descriptor::of(media_type::OCI_MANIFEST, b"referrer") }
    }

    fn entries(list: &[u8]) -> Vec<String> {
        let list: Value = serde_json::from_slice(list).unwrap();
        list["manifests"].as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_referrer_is_listed_once() {
        let referrer = referrer();
        let add = ListChange::Add(&referrer);
        let one = changed(None, add).unwrap().unwrap();
        assert_eq!(entries(&one), [serde_json::to_value(&referrer).unwrap().to_string()]);
        assert_eq!(changed(Some(&one), add), Ok(None));
        assert_eq!(changed(Some(EMPTY), add).unwrap().map(|list| entries(&list)), Some(entries(&one)));
    }

    #[test]
    fn what_others_wrote_into_the_list_stays_as_it_is() {
        let other = r#"{"digest":"md5:x","odd":[1.50],"size":1}"#;
        let list = format!(r#"{{"schemaVersion":2,"manifests":[{other}],"annotations":{{"a":"b"}}}}"#);
        let referrer = referrer();
        let added = changed(Some(list.as_bytes()), ListChange::Add(&referrer)).unwrap().unwrap();
        assert_eq!(entries(&added).len(), 2);
        let removed = changed(Some(&added), ListChange::Remove(&referrer.digest)).unwrap().unwrap();
        let removed: Value = serde_json::from_slice(&removed).unwrap();
        assert_eq!(removed, serde_json::from_str::<Value>(&list).unwrap());
    }

    #[test]
    fn entries_that_are_gone_are_left_out_of_what_is_written() {
        let (absent, referrer) = (Descriptor::of(media_type::OCI_MANIFEST, b"lost"), referrer());
        let one = changed(None, ListChange::Add(&absent)).unwrap().unwrap();
        let gone = BTreeSet::from([absent.digest]);
        let list = super::changed(Some(&one), ListChange::Add(&referrer), &gone).unwrap().unwrap();
        assert_eq!(entries(&list), [serde_json::to_value(&referrer).unwrap().to_string()]);
    }

    #[test]
    fn what_is_not_listed_is_not_removed() {
        let digest = referrer().digest;
        assert_eq!(changed(None, ListChange::Remove(&digest)), Ok(None));
        assert_eq!(changed(Some(EMPTY), ListChange::Remove(&digest)), Ok(None));
    }

    #[test]
    fn a_list_without_entries_may_be_null_and_an_image_is_no_list() {
        let referrer = referrer();
        let null = br#"{"schemaVersion":2,"manifests":null}"#;
        assert!(changed(Some(null), ListChange::Add(&referrer)).unwrap().is_some());
        let image = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        assert!(changed(Some(image), ListChange::Add(&referrer)).is_err());
        assert!(changed(Some(b"<html>"), ListChange::Add(&referrer)).is_err());
    }

    #[test]
    fn long_digests_are_cut_off_in_the_tag() {
        let image: ImageReference = "localhost:1/a:b".parse().unwrap();
        let short = tag_of(&image, &Digest::sha256(b"")).to_string();
        assert_eq!(short, format!("localhost:1/a:sha256-{}", Digest::sha256(b"").hex()));
        let long = Digest::of(quinistry_oci::Algorithm::Sha512, b"");
        assert_eq!(tag_of(&image, &long).to_string(), format!("localhost:1/a:sha512-{}", &long.hex()[..64]));
    }
}
