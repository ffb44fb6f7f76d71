//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{CounterFamily, Histogram, LabelValue};

/// Media type of the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as Prometheus reads them. Each metric is written once, with all of its series.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Writes a counter. By convention its name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, count: u64) {
        self.describe(name, "counter", help);
        self.sample(name, "", &[], count);
    }

    /// Writes the counters of a family, told apart by `label`.
    pub fn counters<V: LabelValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        family: &CounterFamily<V>,
    ) {
        self.describe(name, "counter", help);
        for (value, count) in family.counts() {
            self.sample(name, "", &[(label, value.as_str())], count);
        }
    }

    /// Writes a histogram of seconds.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.describe(name, "histogram", help);
        let mut count = 0;
        for (bound, cumulative) in histogram.cumulative() {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.sample(name, "_bucket", &[("le", &bound)], cumulative);
            count = cumulative;
        }
        self.sample(name, "_sum", &[], histogram.sum().as_secs_f64());
        // The count of the last bucket, so that both agree while others count.
        self.sample(name, "_count", &[], count);
    }

    /// Writes a gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.describe(name, "gauge", help);
        self.sample(name, "", &[], value);
    }

    /// Writes the series of a gauge: the values of its labels, and its value.
    pub fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
    ) {
        self.describe(name, "gauge", help);
        for (labels, value) in series {
            self.sample(name, "", &labels, value);
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    fn describe(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.extend([name, suffix]);
        for (index, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Counter;
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Color {
        Red,
        Blue,
    }

    impl LabelValue for Color {
        const ALL: &'static [Self] = &[Self::Red, Self::Blue];

        fn as_str(self) -> &'static str {
            match self {
                Self::Red => "red",
                Self::Blue => "blue",
            }
        }
    }

    #[test]
    fn metrics_have_the_text_that_prometheus_reads() {
        let (counter, colors) = (Counter::default(), CounterFamily::default());
        let histogram = Histogram::new(&[0.5, 2.0]);
        counter.add(3);
        colors.of(Color::Blue).increment();
        for millis in [500, 501, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Exposition::default();
        text.counter("a_total", "Events.", counter.get());
        text.counters("b_total", "Events by color.", "color", &colors);
        text.histogram("c_seconds", "Durations.", &histogram);
        text.gauge("d", "Things.", 4);
        text.gauges("e", "Things by kind.", [([("kind", "x"), ("state", "y")], 5)]);
        assert_eq!(
            text.into_text(),
            "# HELP a_total Events.\n# TYPE a_total counter\na_total 3\n\
             # HELP b_total Events by color.\n# TYPE b_total counter\n\
             b_total{color=\"red\"} 0\nb_total{color=\"blue\"} 1\n\
             # HELP c_seconds Durations.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.5\"} 1\nc_seconds_bucket{le=\"2\"} 2\nc_seconds_bucket{le=\"+Inf\"} 3\n\
             c_seconds_sum 61.001\nc_seconds_count 3\n\
             # HELP d Things.\n# TYPE d gauge\nd 4\n\
             # HELP e Things by kind.\n# TYPE e gauge\ne{kind=\"x\",state=\"y\"} 5\n"
        );
        assert_eq!(histogram.count(), 3);
    }
}
