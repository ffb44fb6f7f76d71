//! Objects in the bucket that no registry has written.

use std::sync::Arc;
use std::time::SystemTime;

use quinistry_store::{Key, Storage as _};

use super::bucket;
use crate::testing::Mem;

#[test]
fn row_226_objects_whose_names_are_no_keys_are_left_out_of_scans() {
    let mem = Arc::new(Mem::default());
    let foreign = ["f/", "f//x", "f/a/", "f/a/../b", "f/b/./c", "f/z/"];
    for name in foreign.into_iter().chain(["f/a/x", "f/b", "f/z"]) {
        mem.plant(name, "x", SystemTime::UNIX_EPOCH);
    }
    let storage = bucket(mem.clone());
    let folder = Key::of_path("f".into()).unwrap();
    for limit in [1, 2, 1000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = storage.scan(&folder, after.as_ref(), limit).unwrap();
            found.extend(page.entries.into_iter().map(|(key, _)| key.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, ["f/a/x", "f/b", "f/z"], "{limit}");
    }
    assert!(storage.clear(&folder).unwrap());
    assert_eq!(mem.keys(), ["f/", "f//x", "f/a/", "f/a/../b", "f/b/./c", "f/z/"]);
}
