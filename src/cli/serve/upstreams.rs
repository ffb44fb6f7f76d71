//! Upstreams of a configuration, each with the adapter that asks it.

use std::sync::Arc;

use anyhow::bail;

use crate::registry::{UpstreamSettings, Upstreams};

/// Makes the upstreams of a configuration; `None` if it has none.
pub(super) fn upstreams(settings: &[UpstreamSettings]) -> anyhow::Result<Option<Arc<Upstreams>>> {
    if settings.is_empty() {
        return Ok(None);
    }
    let connect = |settings: &UpstreamSettings| -> anyhow::Result<_> {
        bail!("cannot ask {}: this program has no adapter for upstreams yet; remove it", settings.remote_url)
    };
    Ok(Some(Arc::new(Upstreams::new(settings.to_vec(), connect)?)))
}
