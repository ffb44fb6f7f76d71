//! Renewals of Leases, by which operators show that they are alive. (Client required.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::sleep;

use crate::install::api::Cluster;
use crate::install::error::InstallError;
use crate::install::operators;

/// Time after the last observed change of a Lease for which its holder counts as alive.
const LEASE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for which a Lease that looks expired is watched for a renewal. Operators renew every two seconds.
const RENEWAL_WATCH_TIME: Duration = Duration::from_secs(6);

/// Last observed renewals of Leases, by namespace and name. A Lease that changes is alive, even if the clocks
/// differ.
#[derive(Debug, Default)]
pub struct Renewals(BTreeMap<(String, String), Renewal>);

#[derive(Debug)]
struct Renewal {
    time: String,
    /// Time of the last observed change of `time`, by this machine's clock.
    changed: Option<Instant>,
}

// === impl Renewals ===

impl Renewals {
    /// Returns true if a Lease is renewed: fresh by this machine's clock, or changed since it was last read.
    pub(super) async fn is_alive(
        &mut self,
        cluster: &Cluster,
        name: &(String, String),
        lease: &Value,
    ) -> Result<bool, InstallError> {
        let renewal = |lease: &Value| lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned();
        let is_fresh = operators::is_fresh(lease, Timestamp::now());
        if is_fresh || operators::holder(lease).is_none() {
            let changed = is_fresh.then(Instant::now);
            self.0.insert(name.clone(), Renewal { time: renewal(lease), changed });
            return Ok(is_fresh);
        }
        if let Some(known) = self.0.get_mut(name) {
            if known.time != renewal(lease) {
                *known = Renewal { time: renewal(lease), changed: Some(Instant::now()) };
            }
            return Ok(known.changed.is_some_and(|changed| changed.elapsed() < LEASE_TIMEOUT));
        }
        self.0.insert(name.clone(), Renewal { time: renewal(lease), changed: None });
        let began = Instant::now();
        while began.elapsed() < RENEWAL_WATCH_TIME {
            sleep(RENEWAL_WATCH_TIME / 6).await;
            let now = operators::lease(cluster, &name.0, &name.1).await?;
            if let Some(now) = now.filter(|now| renewal(now) != renewal(lease)) {
                let known = Renewal { time: renewal(&now), changed: Some(Instant::now()) };
                self.0.insert(name.clone(), known);
                return Ok(true);
            }
        }
        Ok(false)
    }
}
