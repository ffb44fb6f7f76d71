//! Maintenance of a storage that several registries share: heartbeats, and changes that stopped registries have left.

use quinistry_oci::WithCauses;
use quinistry_store::Store;
use tokio::time::sleep;

/// Maintains the storage at intervals for as long as the registry runs. Ends at once where there is nothing to do.
pub(crate) async fn run(store: Store) {
    while let Some(interval) = store.maintenance_interval() {
        let maintained = tokio::task::spawn_blocking({
            let store = store.clone();
            move || store.maintain()
        });
        // Only a panic, which is logged, or the end of the runtime ends the maintenance.
        let Ok(maintained) = maintained.await else { return };
        if let Err(error) = maintained {
            tracing::warn!(error = %WithCauses(&error), "failed to maintain the shared storage, trying again");
        }
        sleep(interval).await;
    }
}
