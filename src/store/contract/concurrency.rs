//! Behaviours of calls at the same time.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Backend, key};
use crate::storage::Removed;

pub fn a_reader_never_sees_a_part_of_an_entry(backend: Backend) {
    let forms = [vec![1; 70_000], vec![2; 50_000]];
    backend.write("a/b", &forms[0]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                backend.write("a/b", &forms[round % 2]);
            }
            is_over.store(true, Ordering::Release);
        });
        while !is_over.load(Ordering::Acquire) {
            let read = backend.read("a/b").unwrap();
            assert!(forms.iter().any(|form| read == *form), "{} bytes", read.len());
        }
    });
}

pub fn a_later_stage_is_never_seen_before_an_earlier_one(backend: Backend) {
    let is_over = AtomicBool::new(false);
    let number = |path: &str| backend.read(path).map_or(0, |bytes| bytes[0]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..60_u8 {
                let bytes = [round];
                let [target, link] = ["a/target", "a/link"].map(|path| [(key(path), &bytes[..])]);
                backend.storage.write(&[&target, &link]).unwrap();
            }
            is_over.store(true, Ordering::Release);
        });
        while !is_over.load(Ordering::Acquire) {
            let link = number("a/link");
            assert!(number("a/target") >= link);
        }
    });
}

pub fn a_conditional_removal_never_takes_a_newer_write(backend: Backend) {
    for _ in 0..30 {
        backend.write("a/b", b"old");
        let tag = backend.storage.head(&key("a/b")).unwrap().unwrap().tag;
        let start = Barrier::new(2);
        let removed = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                backend.write("a/b", b"new");
            });
            start.wait();
            backend.storage.remove_if(&key("a/b"), &tag).unwrap()
        });
        assert_ne!(removed, Removed::Absent);
        assert_eq!(backend.read("a/b").unwrap(), "new");
    }
}

pub fn writers_of_other_keys_do_not_disturb_each_other(backend: Backend) {
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let backend = &backend;
            scope.spawn(move || {
                for round in 0..10 {
                    backend.write(&format!("a/{writer}/{round}"), b"x");
                    backend.write(&format!("b/{writer}/{round}"), b"x");
                    backend.storage.clear(&key(&format!("b/{writer}"))).unwrap();
                }
            });
        }
    });
    assert_eq!(backend.scan("a", 100).len(), 40);
    assert_eq!(backend.scan("b", 100), [""; 0]);
}
