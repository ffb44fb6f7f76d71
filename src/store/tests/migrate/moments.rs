//! Copies that are interrupted, and sources that change while they are copied.

use super::*;

#[test]
fn a_copy_that_is_cut_off_at_any_write_shows_nothing_incomplete_and_goes_on() {
    let from = filled();
    let wanted = objects(&from);
    let whole = Stepped::new(Memory::new(ROOM));
    copy(&from, &whole, &ALONE);
    let writes = whole.writes();
    assert!(writes > 50, "{writes} writes");
    for number in 0..writes {
        let to = Stepped::new(Memory::new(ROOM));
        to.fail_after(number);
        let error = migrate(&from, &to, &ALONE, &()).unwrap_err();
        assert!(matches!(error, StorageError::Full), "{error}");
        assert_eq!(broken(&to.memory), [""; 0], "after {number} writes");
        let again = Stepped::new(to.memory);
        copy_all(&from, &again);
        assert_eq!(objects(&again.memory), wanted, "after {number} writes");
        assert!(again.writes() <= writes - number + 8, "{} writes after {number}", again.writes());
    }
}

#[test]
fn a_push_at_any_moment_of_a_copy_leaves_the_copy_whole() {
    for number in 0.. {
        let memory = filled();
        let from = Stepped::new(memory.clone());
        let late = memory.clone();
        from.before_read(number, move || {
            let store = Store::open(late.clone(), false).unwrap();
            let one = push(&store, "a", "late", &["v1", "late"]);
            push_index(&store, "a", &[&one], &["late-index"]);
            push(&store, "z", "new", &["v1"]);
        });
        let to = Memory::new(ROOM);
        let report = copy(&from, &to, &ALONE);
        assert_eq!(report.faults, [], "before read {number}");
        assert_eq!(broken(&to), [""; 0], "before read {number}");
        if from.has_hook() {
            assert!(number > 30, "{number} reads");
            return;
        }
        copy_all(&memory, &to);
        assert_eq!(objects(&to), objects(&memory), "before read {number}");
    }
}

#[test]
fn a_removal_at_any_moment_of_a_copy_is_made_up_for_by_the_last_pass() {
    let removing = Migration { removes: true, ..ALONE };
    for number in 0.. {
        let memory = filled();
        let from = Stepped::new(memory.clone());
        let late = memory.clone();
        from.before_read(number, move || {
            let store = Store::open(late.clone(), false).unwrap();
            let both = resolve_tag(&store, "a", "all").unwrap();
            store.delete_manifest(&name("a"), &both).unwrap();
            store.delete_tag(&name("a/b"), &"v1".parse().unwrap()).unwrap();
        });
        let to = Memory::new(ROOM);
        copy(&from, &to, &ALONE);
        if from.has_hook() {
            return;
        }
        let report = copy(&memory, &to, &removing);
        assert_eq!(report.faults, [], "before read {number}");
        let mut wanted = objects(&memory);
        wanted.retain(|path, _| path.contains("/repositories/"));
        let mut found = objects(&to);
        found.retain(|path, _| path.contains("/repositories/"));
        assert_eq!(found, wanted, "before read {number}");
    }
}

#[test]
fn a_repository_that_is_gone_is_removed_from_the_copy_and_its_list() {
    for is_bucket in [false, true] {
        let (from, folder) = (filled(), folder());
        let bucket = Stepped::new(Memory::new(ROOM));
        let files = Filesystem::open(folder.path(), Access::Write).unwrap();
        let to: &dyn Storage = if is_bucket { &bucket } else { &files };
        copy_all(&from, to);
        for repository in ["a/b", "a"] {
            let place = RepositoryKeys(&name(repository)).manifests();
            from.clear(&place).unwrap();
            from.clear(&RepositoryKeys(&name(repository)).all_layers()).unwrap();
            from.clear(&RepositoryKeys(&name(repository)).all_referrers()).unwrap();
        }
        let report = copy(&from, to, &Migration { removes: true, ..WANTED });
        assert!(report.removed > 20, "{report:?}");
        let store = if is_bucket {
            Store::open(bucket.clone(), false).unwrap()
        } else {
            Store::open(files.clone(), false).unwrap()
        };
        let page = crate::Page { size: 100, last: String::new() };
        assert_eq!(store.repositories(&page).unwrap().0, ["a-b", "a/0"].map(name));
    }
}
