//! Settings of the log.

use std::collections::BTreeMap;

use tracing_subscriber::filter::LevelFilter;

/// Least severity of the events that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures that an operator must look at.
    Error,
    /// Also what is likely to become one.
    Warn,
    /// Also what happens rarely in regular operation.
    #[default]
    Info,
    /// Also every request.
    Debug,
}

/// Form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for readers.
    #[default]
    Text,
    /// JSON objects with the keys `time`, `level` and `msg`, as distribution writes them.
    Json,
    /// JSON objects with the keys `@timestamp`, `@version`, `level` and `message`.
    Logstash,
}

/// Settings of the log. Default: text from the level `info` on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Least severity that is logged.
    pub level: LogLevel,
    /// Form of the lines.
    pub format: LogFormat,
    /// Fields that each line has.
    pub fields: BTreeMap<String, String>,
}

impl LogLevel {
    pub(super) const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        }
    }
}
