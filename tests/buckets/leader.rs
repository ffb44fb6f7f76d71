//! The leader of several replicas, as their logs show it.

use std::time::Duration;

use crate::stores::Replica;
use crate::support::stub_store::{Shape, StubStore};

#[test]
fn one_replica_leads_and_another_follows_when_it_is_killed() {
    let stub = StubStore::start(Shape::S3);
    let first = Replica::start(&stub.section(""));
    first.server.log_line("this replica leads term=1");
    let second = Replica::start(&stub.section(""));
    let followed = second.server.log_line("another replica leads");
    assert!(followed.contains("term=1"), "{followed}");
    drop(first);
    stub.mem().clock().advance(Duration::from_secs(31));
    second.server.log_line("this replica leads term=2");
    let keys = stub.mem().keys();
    let terms = keys.iter().filter(|key| key.contains("/_quinistry/leader/")).collect::<Vec<_>>();
    assert_eq!(terms.len(), 1, "{terms:?}");
    assert!(terms[0].ends_with("/00000000000000000002"), "{terms:?}");
}
