//! Expiry of the upload sessions of a store whose storage is a bucket.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_store::Store;

use super::bucket;
use crate::Objects as _;
use crate::testing::{Fault, FaultPlan, Faulty, Mem, RequestKind};

#[test]
fn a_session_that_cannot_be_ended_keeps_no_other_one() {
    let faulty = Arc::new(Faulty::new(Mem::default(), FaultPlan::default()));
    let store = Store::open(bucket(faulty.clone()), false).unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(48);
    let sessions = ["00000001", "00000002"]
        .map(|id| format!("docker/registry/v2/repositories/a/b/_uploads/{id}-0000-4000-8000-000000000000"));
    for folder in &sessions {
        faulty.inner().plant(&format!("{folder}/startedat"), "x", long_ago);
    }
    super::RUNTIME.block_on(faulty.create_multipart("docker/registry/v2/blobs/sha256/aa/aa/data")).unwrap();
    faulty.inner().clock().advance(Duration::from_hours(24));
    store.renew_lead().unwrap();
    faulty.plan().spoil(RequestKind::ListUploads, &sessions[0], Fault::Unavailable, usize::MAX);
    store.expire_uploads(Duration::from_hours(1)).unwrap_err();
    let left = |folder: &String| faulty.inner().keys().iter().any(|key| key.starts_with(folder));
    assert_eq!(sessions.each_ref().map(left), [true, false]);
    assert_eq!(faulty.inner().pending_uploads(), 0);
}
