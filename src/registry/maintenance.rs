//! Maintenance of a storage that several registries share: heartbeats, the choice of a leader, and the work that the
//! leader does.

use quinistry_oci::WithCauses;
use quinistry_store::{Store, StoreError};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// Maintains the storage at intervals for as long as the registry runs, and at once when this replica gets the lead.
/// Ends at once where there is nothing to do.
pub(crate) async fn run(store: Store) {
    // Work of a leader may take minutes, and must not keep the leader from renewing the lead.
    tokio::join!(lead(&store), maintain(&store));
}

async fn lead(store: &Store) {
    while let Some(interval) = store.lead_interval() {
        let renewed =
            call(store, Store::renew_lead, "failed to ask for the lead of the replicas, trying again");
        if renewed.await.is_none() {
            return;
        }
        sleep(interval).await;
    }
}

async fn maintain(store: &Store) {
    let mut gains = store.lead_gains();
    while let Some(interval) = store.maintenance_interval() {
        let maintained = call(store, Store::maintain, "failed to maintain the shared storage, trying again");
        if maintained.await.is_none() {
            return;
        }
        tokio::select! {
            () = sleep(interval) => {}
            () = gains.next() => {}
        }
    }
}

/// Makes a call that blocks, and logs its failure. Returns `None` after a panic, which is logged, or at the end of the
/// runtime: both end the maintenance.
async fn call(
    store: &Store,
    call: fn(&Store) -> Result<(), StoreError>,
    failure: &'static str,
) -> Option<()> {
    let store = store.clone();
    let called = spawn_blocking(move || call(&store)).await.ok()?;
    if let Err(error) = called {
        tracing::warn!(error = %WithCauses(&error), "{failure}");
    }
    Some(())
}
