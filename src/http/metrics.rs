//! Metrics in the Prometheus text format: counters, gauges, histograms, and the text that shows them.
//!
//! Labels come from closed sets ([`LabelValue`]), so that the number of series is known from the start, and
//! all of them exist from the start: a series that appeared with its first count would hide that count from
//! Prometheus' `increase`. Only families of many labels leave out series that are not likely to count anything
//! ([`Exposition::family`]). Counting takes no lock.

mod counter;
mod family;
mod gauge;
mod histogram;
mod text;

pub use counter::{Counter, CounterFamily, LabelValue};
pub use family::{Counters, Family, Gauges, LabelSet};
pub use gauge::Gauge;
pub use histogram::Histogram;
pub use text::{CONTENT_TYPE, Exposition, Shown};
