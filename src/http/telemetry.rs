//! Logging: lines on standard error, filtered by `RUST_LOG`. The command line starts it once.

use std::fmt;
use std::io::{IsTerminal as _, stderr};

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Log target of kube's client.
const KUBE: &str = "kube_client";

/// Function that returns the harmless form of untrusted text, on one line.
pub type Escape = fn(&str) -> String;

/// Starts logging. `escape` makes the values of fields harmless. A malformed `RUST_LOG` is reported and
/// replaced by `info`, because logs matter most when things go wrong.
pub fn init(escape: Escape) {
    let requested = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = if requested.is_empty() { None } else { parse(&requested) };
    let is_malformed = filter.is_none() && !requested.is_empty();
    let filter = silence_kube(filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        // tracing reports such errors on standard error, which has just failed, and by a macro that panics.
        .log_internal_errors(false)
        .fmt_fields(fields(escape));
    tracing_subscriber::registry().with(filter).with(lines).init();
    if is_malformed {
        tracing::warn!(
            RUST_LOG = ?requested,
            "malformed log filter, using 'info'; expected a filter such as 'info' or 'warn,quinistry=debug'"
        );
    }
}

/// Silences kube's client, unless the filter names it. kube logs each failure before the caller can explain
/// it, and quotes whole responses, such as the list of all nodes.
fn silence_kube(filter: Targets) -> Targets {
    let is_named = filter.iter().any(|(target, _)| target.starts_with(KUBE));
    if is_named { filter } else { filter.with_target(KUBE, LevelFilter::OFF) }
}

/// Formats fields as `message name=value …`, with values escaped: many are text of a client, a registry or a
/// cluster.
fn fields(escape: Escape) -> impl for<'w> FormatFields<'w> + Clone + 'static {
    let write = move |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = escape(&format!("{value:?}"));
        match (field.name(), writer.has_ansi_escapes()) {
            ("message", _) => write!(writer, "{value}"),
            (name, true) => write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}"),
            (name, false) => write!(writer, "{name}={value}"),
        }
    };
    debug_fn(write).delimited(" ")
}

/// Parses levels and `target=level` pairs, joined by commas. Stricter than [`Targets`], which takes a
/// misspelt level for the name of a target, and then shows nothing at all.
fn parse(text: &str) -> Option<Targets> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_directive = |part: &str| part.contains('=') || is_level(part.trim());
    text.split(',').all(is_directive).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Buffer of logged lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_entry_is_one_line_without_terminal_escapes() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .fmt_fields(fields(quinistry_oci::escape::line));
        let text = "a\u{1b}[2Jb\nWARN forged\u{202e}\u{9b}";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(user = %text, agent = ?text, count = 3, "said {text}");
        });
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let safe = r"a\u{1b}[2Jb\nWARN forged\u{202e}\u{9b}";
        assert_eq!(log, format!(" WARN said {safe} user={safe} agent=\"{safe}\" count=3\n"));
    }

    #[test]
    fn kubes_client_is_silent_unless_the_filter_names_it() {
        use tracing::Level;

        for level in ["info", "debug", "quinistry=debug,info"] {
            let filter = silence_kube(parse(level).unwrap());
            assert!(!filter.would_enable("kube_client::client", &Level::ERROR), "{level}");
            assert!(filter.would_enable("quinistry_kube::operator", &Level::WARN), "{level}");
        }
        let filter = silence_kube(parse("info,kube_client=warn").unwrap());
        assert!(filter.would_enable("kube_client::client", &Level::WARN));
    }

    #[test]
    fn the_programs_name_selects_all_of_its_crates() {
        let filter = parse("warn,quinistry=debug").unwrap();
        for target in ["quinistry::cli", "quinistry_registry", "quinistry_kube::operator"] {
            assert!(filter.would_enable(target, &tracing::Level::DEBUG), "{target}");
        }
        assert!(!filter.would_enable("hyper", &tracing::Level::DEBUG));
    }

    #[test]
    fn a_misspelt_level_is_malformed() {
        for text in ["info", "warn,quinistry=debug", "quinistry_registry=trace", "off"] {
            assert!(parse(text).is_some(), "{text}");
        }
        for text in ["inof", "info,,", "", ",", "quinistry", "quinistry=loud"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
