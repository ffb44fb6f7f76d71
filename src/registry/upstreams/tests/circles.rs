//! Circles of caches, which are each other's upstream.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{Mirror, manifest_path};

/// Subscriber that keeps the text of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed) as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn row_166_one_warning_names_the_circle() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let mut mirror = Mirror::new();
    for _ in 0..3 {
        let path = manifest_path("latest");
        let answer = mirror.ask(Method::GET, &path, &[("quinistry-hops", "8")]).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::LOOP_DETECTED, "UNKNOWN"));
        mirror.reload(super::hub_settings());
    }
    let warnings = warnings.0.lock().unwrap();
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    for part in ["too many caches", "upstream=scripted", "repository=docker.io/library/app"] {
        assert!(warning.contains(part), "{warning}");
    }
}
