//! Stores that lack an ability.

use std::sync::Arc;

use super::{HASTY, RUNTIME};
use crate::testing::{FaultPlan, Faulty, HonoredConditions, Mem, MemOptions, RequestKind, StoreClock};
use crate::{Condition, Governed, ObjectErrorKind, Objects as _, StoreAbilities};

fn store(options: MemOptions, abilities: StoreAbilities) -> (Arc<Faulty<Mem>>, Governed) {
    let faulty = Arc::new(Faulty::new(Mem::new(options, StoreClock::system()), FaultPlan::default()));
    (faulty.clone(), Governed::new(faulty, HASTY).with_abilities(abilities))
}

#[test]
fn many_objects_are_removed_one_by_one_where_the_store_has_no_request_for_it() {
    let abilities = StoreAbilities { removes_many: false, ..StoreAbilities::ALL };
    let (faulty, objects) = store(MemOptions::default(), abilities);
    RUNTIME.block_on(async {
        let keys: Vec<String> = (0..100).map(|i| format!("k/{i}")).collect();
        for key in &keys {
            objects.put(key, "x".into(), Condition::Always).await.unwrap();
        }
        assert!(objects.delete_many(&keys).await.unwrap().is_empty());
    });
    let counts = faulty.log().counts();
    assert_eq!([RequestKind::DeleteMany, RequestKind::Delete].map(|kind| counts.of(kind)), [0, 100]);
    assert!(faulty.inner().keys().is_empty());
}

#[test]
fn a_copy_is_not_sent_to_a_store_that_answers_it_with_success_and_copies_nothing() {
    let abilities = StoreAbilities { copies: false, ..StoreAbilities::ALL };
    let (faulty, objects) = store(MemOptions::default(), abilities);
    let refused = RUNTIME.block_on(objects.copy("a", "b")).unwrap_err();
    assert_eq!((refused.kind, faulty.log().counts().total()), (ObjectErrorKind::Refused, 0));
}

#[test]
fn of_many_creations_in_one_process_one_wins_where_the_store_checks_nothing() {
    let abilities = StoreAbilities { creates: false, removes_if_unchanged: false, ..StoreAbilities::ALL };
    for conditions in [HonoredConditions::Nothing, HonoredConditions::Refused] {
        let (_, objects) = store(MemOptions { conditions, ..MemOptions::default() }, abilities);
        RUNTIME.block_on(async {
            let creations = (0..20).map(|i| {
                let objects = objects.clone();
                tokio::spawn(async move { objects.put("k", format!("{i}").into(), Condition::Absent).await })
            });
            let mut created = 0;
            for creation in creations.collect::<Vec<_>>() {
                match creation.await.unwrap() {
                    Ok(_) => created += 1,
                    Err(error) => assert_eq!(error.kind, ObjectErrorKind::Precondition),
                }
            }
            assert_eq!(created, 1);
            let version = objects.head("k").await.unwrap().version;
            let other = objects.delete("k", Condition::Version("other"), None).await.unwrap_err();
            assert_eq!(other.kind, ObjectErrorKind::Precondition);
            objects.delete("k", Condition::Version(&version), None).await.unwrap();
        });
    }
}
