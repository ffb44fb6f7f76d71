//! Logging: lines on standard error, as text or JSON. The command line starts it once, and configures it again
//! when it has read a configuration.

mod json;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tracing::field::Field;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::{MakeExt as _, RecordFields};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Full, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

pub use self::settings::{LogFormat, LogLevel, LogSettings};

/// Log target of kube's client.
const KUBE: &str = "kube_client";

/// Function that returns the harmless form of untrusted text, on one line.
pub type Escape = fn(&str) -> String;

/// Logging of the process, once it has started.
static LOGGING: OnceLock<Logging> = OnceLock::new();

/// Parts of running logging that can change.
#[derive(Debug)]
struct Logging {
    shape: Shape,
    filter: reload::Handle<Targets, Registry>,
    /// `RUST_LOG` has set the filter, and wins over every configured level.
    is_filter_fixed: bool,
}

/// Form of the lines, shared with the subscriber.
type Shape = Arc<RwLock<LogSettings>>;

/// Starts logging as text, with the level `info`. `escape` makes the values of fields harmless. `RUST_LOG` sets
/// the filter; a malformed one is reported and ignored, because logs matter most when things go wrong.
pub fn init(escape: Escape) {
    let requested = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = if requested.is_empty() { None } else { parse(&requested) };
    let is_malformed = filter.is_none() && !requested.is_empty();
    let (subscriber, logging) = subscriber(escape, filter, stderr, has_colors(stderr().is_terminal()));
    subscriber.init();
    // Logging starts once; a second subscriber would have ended the process above.
    let _ = LOGGING.set(logging);
    if is_malformed {
        tracing::warn!(
            RUST_LOG = ?requested,
            "malformed log filter, using 'info'; expected a filter such as 'info' or 'warn,quinistry=debug'"
        );
    }
}

/// Changes level, form and fixed fields of the lines that are logged from now on. The level stays if `RUST_LOG`
/// has set the filter. Without [`init`] it does nothing.
pub fn configure(settings: &LogSettings) {
    if let Some(logging) = LOGGING.get() {
        logging.configure(settings);
    }
}

/// Makes the subscriber, and the control of its parts that can change.
fn subscriber<W>(
    escape: Escape,
    filter: Option<Targets>,
    writer: W,
    has_colors: bool,
) -> (impl Subscriber + Send + Sync, Logging)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let is_filter_fixed = filter.is_some();
    let filter = filter.map_or_else(|| of_level(LogLevel::default()), silence_kube);
    let (filter, handle) = reload::Layer::new(filter);
    let shape = Shape::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(has_colors)
        // tracing reports such errors on standard error, which has just failed, and by a macro that panics.
        .log_internal_errors(false)
        .fmt_fields(TextFields { fields: fields(escape), shape: shape.clone(), escape })
        .event_format(LogLines { text: Format::default().with_target(false), shape: shape.clone() });
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    (subscriber, Logging { shape, filter: handle, is_filter_fixed })
}

/// Returns true if colors are wanted: `NO_COLOR` (<https://no-color.org>) and `TERM=dumb` switch them off.
fn has_colors(is_terminal: bool) -> bool {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !is_unwanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn of_level(level: LogLevel) -> Targets {
    silence_kube(Targets::new().with_default(level.filter()))
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
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write_field(writer, name, &value),
        }
    };
    debug_fn(write).delimited(" ")
}

fn write_field(writer: &mut Writer<'_>, name: &str, value: &str) -> fmt::Result {
    if writer.has_ansi_escapes() {
        write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
    } else {
        write!(writer, "{name}={value}")
    }
}

/// Parses levels and `target=level` pairs, joined by commas. Stricter than [`Targets`], which takes a
/// misspelt level for the name of a target, and then shows nothing at all.
fn parse(text: &str) -> Option<Targets> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_directive = |part: &str| part.contains('=') || is_level(part.trim());
    text.split(',').all(is_directive).then(|| text.parse().ok()).flatten()
}

// === impl Logging ===

impl Logging {
    fn configure(&self, settings: &LogSettings) {
        *self.shape.write().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        if !self.is_filter_fixed {
            // Fails only once the subscriber is gone, and then nothing is logged.
            let _ = self.filter.reload(of_level(settings.level));
        }
    }
}

/// Fields of an event as text, followed by the fixed fields.
#[derive(Debug)]
struct TextFields<F> {
    fields: F,
    shape: Shape,
    escape: Escape,
}

impl<'w, F> FormatFields<'w> for TextFields<F>
where
    F: for<'a> FormatFields<'a>,
{
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        self.fields.format_fields(writer.by_ref(), fields)?;
        let settings = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in &settings.fields {
            writer.write_char(' ')?;
            write_field(&mut writer, &(self.escape)(name), &(self.escape)(value))?;
        }
        Ok(())
    }
}

/// Events as lines of the configured form.
#[derive(Debug)]
struct LogLines {
    text: Format<Full>,
    shape: Shape,
}

impl<S, N> FormatEvent<S, N> for LogLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let settings = self.shape.read().unwrap_or_else(PoisonError::into_inner);
        let keys = match settings.format {
            LogFormat::Text => {
                drop(settings);
                return self.text.format_event(context, writer, event);
            }
            LogFormat::Json => &json::LOGRUS,
            LogFormat::Logstash => &json::LOGSTASH,
        };
        writer.write_str(&json::line(keys, &settings.fields, event))
    }
}
