//! Tests of the lines and of the filter.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;

/// Buffer of logged lines.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    /// Returns the lines since the last call.
    fn text(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_entry_is_one_line_without_terminal_escapes() {
    let lines = Buffer::default();
    let writer = lines.clone();
    let (subscriber, _) = subscriber(quinistry_oci::escape::line, None, move || writer.clone(), false);
    let text = "a\u{1b}[2Jb\nWARN forged\u{202e}\u{9b}";
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(user = %text, agent = ?text, count = 3, "said {text}");
    });
    let log = lines.text();
    let safe = r"a\u{1b}[2Jb\nWARN forged\u{202e}\u{9b}";
    let (_, log) = log.split_once("Z ").unwrap();
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

/// Runs `log` under a subscriber of its own, and returns the lines.
fn logged(filter: Option<Targets>, log: impl FnOnce(&Logging)) -> String {
    let lines = Buffer::default();
    let writer = lines.clone();
    let (subscriber, logging) =
        subscriber(quinistry_oci::escape::line, filter, move || writer.clone(), false);
    tracing::subscriber::with_default(subscriber, || log(&logging));
    lines.text()
}

fn settings(level: LogLevel, format: LogFormat) -> LogSettings {
    let fields = [("service", "r\ngistry"), ("count", "hidden"), ("level", "x")];
    LogSettings { level, format, fields: fields.map(|(name, value)| (name.into(), value.into())).into() }
}

#[test]
fn level_form_and_fields_change_while_logging_runs() {
    let log = logged(None, |logging| {
        tracing::debug!("hidden");
        tracing::info!("first");
        logging.configure(&settings(LogLevel::Debug, LogFormat::Text));
        tracing::debug!(a = 1, "second");
        logging.configure(&settings(LogLevel::Warn, LogFormat::Json));
        tracing::info!("hidden");
        tracing::warn!("third");
    });
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines[0].ends_with("  INFO first"), "{log}");
    assert!(lines[1].ends_with(r" DEBUG second a=1 count=hidden level=x service=r\ngistry"), "{log}");
    assert!(
        lines[2].starts_with('{') && lines[2].contains("\"level\":\"warning\",\"msg\":\"third\""),
        "{log}"
    );
}

#[test]
fn the_filter_of_the_environment_wins_over_the_configured_level() {
    let log = logged(parse("warn"), |logging| {
        logging.configure(&settings(LogLevel::Debug, LogFormat::Text));
        tracing::info!("hidden");
        tracing::warn!("shown");
    });
    assert!(log.lines().count() == 1 && log.contains("shown"), "{log}");
}

#[test]
fn a_line_of_json_has_time_level_and_message_and_then_the_fields() {
    let hostile = "a\u{1b}[2J\nb\u{202e}\"";
    for (format, time, message) in
        [(LogFormat::Json, "time", "msg"), (LogFormat::Logstash, "@timestamp", "message")]
    {
        let log = logged(None, |logging| {
            logging.configure(&settings(LogLevel::Info, format));
            tracing::error!(user = %hostile, count = 3, is_new = true, ratio = 0.5, msg = "x", "said {hostile}");
        });
        assert!(
            log.ends_with("}\n") && log.trim_end().bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{log}"
        );
        let read: serde_json::Value = serde_json::from_str(&log).unwrap();
        let time = read[time].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.len() == 27, "{time}");
        assert_eq!(read[message], format!("said {hostile}"));
        assert_eq!(read["level"], "error");
        assert_eq!((&read["user"], &read["count"]), (&hostile.into(), &3.into()));
        assert_eq!((&read["is_new"], &read["ratio"]), (&true.into(), &0.5.into()));
        assert_eq!((&read["service"], &read["fields.level"]), (&"r\ngistry".into(), &"x".into()));
        if format == LogFormat::Json {
            assert_eq!(read["fields.msg"], "x");
        } else {
            assert_eq!((&read["@version"], &read["msg"]), (&"1".into(), &"x".into()));
        }
        assert_eq!(log.matches("\"count\"").count(), 1, "{log}");
    }
}
