//! Content is written with its hash, by which the store refuses other bytes.

use std::sync::Arc;

use quinistry_oci::Digest;
use quinistry_store::{Key, Storage as _, StorageError, UploadStart};

use super::gateway::Gateway;
use super::{RUNTIME, able_bucket};
use crate::testing::Mem;
use crate::{Bucket, Condition, ObjectErrorKind, Objects as _, StoreAbilities};

fn key_of(digest: &Digest) -> Key {
    let hex = digest.hex();
    Key::of_path(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])).unwrap()
}

/// Writes bytes under the key of others, as if a fault had changed them on their way.
fn write(bucket: &Bucket) -> Result<(), StorageError> {
    bucket.write(&[&[(key_of(&Digest::sha256(b"right")), b"wrong")]])
}

fn upload(bucket: &Bucket) -> Result<(), StorageError> {
    let digest = Digest::sha256(b"right");
    let key = key_of(&digest);
    let start = UploadStart::Whole { digest: &digest, length: Some(5), key: Some(&key) };
    let mut upload = bucket.uploads().begin(start)?;
    upload.append(b"wrong")?;
    upload.finish(&key, &[])
}

#[test]
fn a_store_that_verifies_hashes_refuses_content_that_was_changed_on_its_way() {
    for send in [write, upload] {
        let mem = Arc::new(Mem::default());
        let error = send(&able_bucket(mem.clone(), StoreAbilities::ALL)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.ends_with("400 BadDigest"), "{cause}");
        assert!(mem.keys().is_empty());
        // A store that does not verify hashes is not told any.
        let unable = StoreAbilities { verifies_sha256: false, ..StoreAbilities::ALL };
        send(&able_bucket(mem, unable)).unwrap();
    }
}

#[test]
fn a_store_tells_the_hash_with_which_an_object_was_written() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = gateway.bucket();
    RUNTIME.block_on(async {
        let digest = Digest::sha256(b"bytes");
        let body = || bytes::Bytes::from_static(b"bytes").into();
        bucket.put_hashed("hashed", body(), Condition::Always, Some(&digest)).await.unwrap();
        assert_eq!(bucket.kept_sha256("hashed").await.unwrap(), Some(digest.clone()));
        bucket.put("unhashed", body(), Condition::Always).await.unwrap();
        assert!(bucket.kept_sha256("unhashed").await.unwrap().is_none_or(|found| found == digest));
        let absent = bucket.kept_sha256("absent").await.unwrap_err();
        assert_eq!(absent.kind, ObjectErrorKind::NotFound);
    });
}
