//! Metrics in the Prometheus text format: counters, histograms, and the text that shows them.
//!
//! Labels come from closed sets ([`LabelValue`]), so that the number of series is known from the start, and
//! all of them exist from the start: a series that appeared with its first count would hide that count from
//! Prometheus' `increase`. Counting takes no lock.

mod counter;
mod histogram;
mod text;

pub use counter::{Counter, CounterFamily, LabelValue};
pub use histogram::Histogram;
pub use text::{CONTENT_TYPE, Exposition};
