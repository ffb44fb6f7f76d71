//! Page of all metrics.

use std::sync::atomic::Ordering;

use quinistry_http::connections;
use quinistry_http::memory_budget::{MemoryBudget, READ_BUFFERS, RESPONSES};
use quinistry_http::metrics::{Exposition, LabelValue as _};
use quinistry_http::tls::{HANDSHAKES, TLS_READS, TLS_WRITES, TlsServer};
use quinistry_store::{GcPhase, Quota, Store, Usage};

use super::{HttpMetrics, RegistryMetrics, ReloadMetrics, StorageMetrics};
use crate::memory_budgets::{MANIFEST_BEGINNINGS, MANIFEST_REMAINDERS, UPLOAD_BATCHES};

/// Budgets of memory, by their names.
static BUDGETS: [(&str, &MemoryBudget); 8] = [
    ("read_buffers", &READ_BUFFERS),
    ("responses", &RESPONSES),
    ("tls_handshakes", &HANDSHAKES),
    ("tls_reads", &TLS_READS),
    ("tls_writes", &TLS_WRITES),
    ("upload_batches", &UPLOAD_BATCHES),
    ("manifest_beginnings", &MANIFEST_BEGINNINGS),
    ("manifest_remainders", &MANIFEST_REMAINDERS),
];

impl RegistryMetrics {
    /// Returns the page. Asks the storage for its room, so that it may block.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = Exposition::default();
        page.gauges(
            "quinistry_build_info",
            "The running program; the value is always 1.",
            [([("version", env!("CARGO_PKG_VERSION"))], 1)],
        );
        page.gauge("quinistry_connections", "Open connections.", connections::open());
        self.http.write(&mut page);
        write_budgets(&mut page);
        if let Some(storage) = self.storage.get() {
            storage.write(&mut page);
        }
        if let Some(abilities) = self.abilities.get() {
            page.gauges(
                "quinistry_storage_ability",
                "Whether the object store can do something, as its probe found.",
                abilities.iter().map(|(ability, is_able)| ([("ability", *ability)], u64::from(*is_able))),
            );
        }
        if let Some(store) = self.store.get() {
            write_store(&mut page, store);
        }
        if let Some(log) = self.access_log.get() {
            page.counter(
                "quinistry_access_log_lines_dropped_total",
                "Lines of the access log that were not written.",
                log.dropped(),
            );
        }
        if let Some(dropped) = self.audit_log.dropped() {
            page.counter(
                "quinistry_audit_log_lines_dropped_total",
                "Lines of the audit log that were not written.",
                dropped,
            );
        }
        if let Some(auth) = self.auth.get() {
            auth.write(&mut page);
        }
        if let Some(collection) = self.collection.get() {
            let phase = self.store.get().map_or(GcPhase::Idle, Store::gc_phase);
            collection.write(&mut page, phase);
        }
        if let Some(reloads) = self.reloads.get() {
            reloads.write(&mut page);
        }
        self.file_reload_failures.write(&mut page);
        if let Some(tls) = self.tls.get() {
            write_tls(&mut page, tls);
        }
        if let Some(notifications) = self.notifications.get() {
            super::notifications::write(&mut page, &notifications.statistics());
        }
        if let Some(upstreams) = self.upstreams.get() {
            upstreams.write(&mut page);
        }
        if let Some(peers) = self.peers.get() {
            peers.write(&mut page);
        }
        if let Some(named) = self.named_images.get() {
            super::named_images::write(&mut page, &named.report());
        }
        page.into_text()
    }
}

impl HttpMetrics {
    fn write(&self, page: &mut Exposition) {
        page.family(
            "registry_http_requests_total",
            "Answered requests.",
            &["handler", "code", "method"],
            &self.requests,
            |(endpoint, code, method)| endpoint.has(method) && code.is_expected(),
        );
        page.family(
            "registry_http_request_duration_seconds",
            "Durations of requests, to the end of the answer.",
            &["handler", "method"],
            &self.durations,
            |(endpoint, method)| endpoint.has(method),
        );
        page.family(
            "registry_http_in_flight_requests",
            "Requests that are being answered.",
            &["handler"],
            &self.in_flight,
            |_| true,
        );
        page.family(
            "registry_http_request_size_bytes",
            "Sizes of received bodies.",
            &["handler"],
            &self.request_bytes,
            |_| true,
        );
        page.family(
            "registry_http_response_size_bytes",
            "Sizes of sent bodies.",
            &["handler"],
            &self.response_bytes,
            |_| true,
        );
    }
}

impl StorageMetrics {
    fn write(&self, page: &mut Exposition) {
        page.family_with(
            "registry_storage_action_seconds",
            "Durations of calls of the storage.",
            &[("driver", self.driver.as_str())],
            &["action"],
            &self.actions,
            |_| true,
        );
        page.histogram("quinistry_store_flush_seconds", "Durations of flushes to the disk.", &self.flushes);
    }
}

impl ReloadMetrics {
    fn write(&self, page: &mut Exposition) {
        page.gauge(
            "quinistry_config_last_reload_successful",
            "Whether the last configuration that was read is in use.",
            self.is_successful.get(),
        );
        page.gauge(
            "quinistry_config_last_reload_success_timestamp_seconds",
            "Time of the last configuration that was read and is in use.",
            self.success_millis.load(Ordering::Relaxed) / 1000,
        );
    }
}

fn write_budgets(page: &mut Exposition) {
    let series = |bytes: fn(&MemoryBudget) -> usize| {
        BUDGETS.iter().map(move |(name, budget)| ([("budget", *name)], bytes(budget) as u64))
    };
    page.gauges(
        "quinistry_memory_budget_bytes",
        "Memory that all clients together may make the registry hold.",
        series(MemoryBudget::size),
    );
    page.gauges(
        "quinistry_memory_budget_free_bytes",
        "Free part of the memory budget.",
        series(MemoryBudget::free_bytes),
    );
}

fn write_store(page: &mut Exposition, store: &Store) {
    let statistics = store.statistics();
    if store.is_shared() {
        page.gauge(
            "quinistry_leader",
            "Whether this replica does the work of all that need not be done twice.",
            u64::from(store.lead().is_some()),
        );
        page.counter(
            "quinistry_storage_throttled_total",
            "Answers by which the object store asked for fewer requests.",
            store.throttlings(),
        );
    }
    page.gauge(
        "quinistry_store_uploads_open",
        "Upload sessions that are open.",
        statistics.open_uploads as u64,
    );
    super::scrub::write(page, &store.scrub_statistics());
    let caches = statistics.caches;
    page.counter_series(
        "quinistry_store_cache_hits_total",
        "Look-ups that a cache answered.",
        caches.iter().map(|(name, uses)| ([("cache", *name)], uses.hits)),
    );
    page.counter_series(
        "quinistry_store_cache_misses_total",
        "Reads of the storage, because a cache had no entry.",
        caches.iter().map(|(name, uses)| ([("cache", *name)], uses.misses)),
    );
    write_quotas(page, store);
    match store.space() {
        Ok(space) => {
            if let Some(bytes) = space.used_bytes {
                page.gauge("quinistry_store_bytes", "Bytes of the stored content.", bytes);
            }
            if let Some(bytes) = space.free_bytes {
                page.gauge("quinistry_store_free_bytes", "Bytes that can still be stored.", bytes);
            }
        }
        Err(error) => tracing::debug!(%error, "cannot read the room in the storage"),
    }
}

/// Writes the quotas, and their usage once it is known.
fn write_quotas(page: &mut Exposition, store: &Store) {
    let quotas = store.quota_usage();
    let series = |value: fn(&Quota, Option<Usage>) -> Option<u64>| {
        let value = move |(quota, usage): &(Quota, Option<Usage>)| {
            value(quota, *usage).map(|value| ([("quota", quota.name.clone())], value))
        };
        quotas.iter().filter_map(value).collect::<Vec<_>>()
    };
    for (name, help, values) in [
        ("quinistry_quota_bytes", "Most bytes of a quota.", series(|quota, _| quota.bytes)),
        (
            "quinistry_quota_used_bytes",
            "Bytes that the repositories of a quota have.",
            series(|_, usage| usage.map(|usage| usage.bytes)),
        ),
        ("quinistry_quota_tags", "Most tags of a quota.", series(|quota, _| quota.tags)),
        (
            "quinistry_quota_used_tags",
            "Tags that the repositories of a quota have.",
            series(|_, usage| usage.map(|usage| usage.tags)),
        ),
    ] {
        if !values.is_empty() {
            let values = values.iter().map(|([(label, quota)], value)| ([(*label, &**quota)], *value));
            page.gauges(name, help, values);
        }
    }
}

fn write_tls(page: &mut Exposition, tls: &TlsServer) {
    if let Some(expiry) = tls.expiry() {
        page.gauge(
            "quinistry_tls_certificate_expiry_timestamp_seconds",
            "End of the validity of the certificate in use.",
            expiry,
        );
    }
    let results = |(success, failure): (u64, u64)| {
        [([("result", "success")], success), ([("result", "failure")], failure)]
    };
    page.counter_series(
        "quinistry_tls_reloads_total",
        "Exchanges of the certificate or the client authorities, and failures to exchange them.",
        results(tls.reloads()),
    );
    page.counter_series("quinistry_tls_handshakes_total", "TLS handshakes.", results(tls.handshakes()));
}
