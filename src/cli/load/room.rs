//! Room for a load on all nodes of a store, before its first byte: each store copies everything.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::super::output::complain;
use super::super::{count, format_bytes, sanitize};
use super::Bundle;
use crate::client::Client;
use crate::install::store::{Store, StorePod, StoreTunnel, TunnelEvent};

/// Time limit for a store to tell its room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit for a store to tell which blobs it lacks: one short answer for each of up to thousands.
const LOOKUP_TIMEOUT: Duration = Duration::from_mins(1);

/// Fails, and names each store that has no room for what it lacks of a bundle. A store that cannot be asked keeps no load
/// back; if none can be asked, the load itself fails and says why.
pub(super) async fn ensure_room(bundle: &Bundle, store: &Store, host: &str) -> anyhow::Result<()> {
    let pods = store.running_pods().await?;
    let asked = join_all(pods.iter().map(|pod| ask(bundle, store, pod, host))).await;
    if asked.iter().all(Result::is_err) {
        return Ok(());
    }
    let mut full = 0;
    for (pod, shortage) in pods.iter().zip(asked) {
        match shortage {
            Ok(None) => {}
            Ok(Some(Shortage { lacking_bytes, room_bytes })) => {
                full += 1;
                complain(&sanitize(&format!(
                    "no room on node {}: {} are to be stored, and there is room for {} (pod {})",
                    pod.node,
                    format_bytes(lacking_bytes),
                    format_bytes(room_bytes),
                    pod.name
                )));
            }
            Err(why) => {
                complain(&sanitize(&format!("warning: cannot ask {pod} for its room: {why}")));
            }
        }
    }
    anyhow::ensure!(
        full == 0,
        "{full} of {} without room (listed above); nothing was sent: free space on the disk of the folder spec.store.path, or \
         choose other nodes by spec.store.nodeSelector",
        count(pods.len(), "store")
    );
    Ok(())
}

/// Store that has no room for what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortage {
    lacking_bytes: u64,
    room_bytes: u64,
}

/// Asks one store. Returns `None` if there is room, or the store does not tell.
async fn ask(bundle: &Bundle, store: &Store, pod: &StorePod, host: &str) -> Result<Option<Shortage>, String> {
    let mut tunnel = StoreTunnel::to(store, pod.clone()).map_err(|error| error.to_string())?;
    let client = Client::over_socket(tunnel.socket()).map_err(|error| error.to_string())?;
    let asking = async {
        let room = timeout(ROOM_TIMEOUT, client.room_bytes(host)).await;
        let room = room.map_err(|_| silent(ROOM_TIMEOUT))?;
        let Some(room_bytes) = room.map_err(|error| error.to_string())? else { return Ok(None) };
        // The usual case, without a question for each blob.
        if bundle.blob_bytes() <= room_bytes {
            return Ok(None);
        }
        let lacking = timeout(LOOKUP_TIMEOUT, client.lacking_bytes(bundle, host)).await;
        let lacking = lacking.map_err(|_| silent(LOOKUP_TIMEOUT))?;
        let lacking_bytes = lacking.map_err(|error| error.to_string())?;
        Ok((lacking_bytes > room_bytes).then_some(Shortage { lacking_bytes, room_bytes }))
    };
    let result = tokio::select! {
        biased;
        event = tunnel.event() => match event {
            TunnelEvent::Failed(error) => Err(error.to_string()),
            TunnelEvent::Moved { .. } => unreachable!("the tunnel leads to one pod"),
        },
        result = asking => result,
    };
    result.map_err(|why| tunnel.last_failure().unwrap_or(why))
}

fn silent(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}
