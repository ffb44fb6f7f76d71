//! Log lines as JSON objects.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::json_line::JsonLine;

/// Names of the fields that every line has.
#[derive(Debug)]
pub(super) struct Keys {
    time: &'static str,
    message: &'static str,
    /// Field with the version of the form.
    version: Option<(&'static str, &'static str)>,
}

/// Names that logrus uses, the log of distribution.
pub(super) const LOGRUS: Keys = Keys { time: "time", message: "msg", version: None };

/// Names of Logstash's event format, version 1.
pub(super) const LOGSTASH: Keys =
    Keys { time: "@timestamp", message: "message", version: Some(("@version", "1")) };

const LEVEL: &str = "level";

/// Fields of an event.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

/// Returns the line of an event, with its end. Fields of the event hide fixed ones of their name.
pub(super) fn line(keys: &Keys, fixed: &BTreeMap<String, String>, event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut text = Vec::with_capacity(256);
    let mut line = JsonLine::begin(&mut text);
    line.field(keys.time, &format!("{:.6}", Timestamp::now()));
    if let Some((name, value)) = keys.version {
        line.field(name, value);
    }
    line.field(LEVEL, level(*event.metadata().level()));
    line.field(keys.message, &fields.message);
    for (name, value) in &fields.others {
        line.field(&keys.free_name(name), value);
    }
    let is_hidden = |name: &str| fields.others.iter().any(|(other, _)| *other == name);
    for (name, value) in fixed.iter().filter(|(name, _)| !is_hidden(name)) {
        line.field(&keys.free_name(name), value);
    }
    line.end();
    String::from_utf8(text).expect("JSON of ASCII is UTF-8")
}

/// Returns the name of a level as logrus has it.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Keys {
    /// Returns a name that no field of every line has. logrus makes way in the same manner.
    fn free_name(&self, name: &str) -> String {
        let version = self.version.map(|(version, _)| version);
        let is_taken = [self.time, self.message, LEVEL].contains(&name) || version == Some(name);
        if is_taken { format!("fields.{name}") } else { name.to_owned() }
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", value) => self.message = value.to_string(),
            (name, value) => self.others.push((name.trim_start_matches("r#"), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}
