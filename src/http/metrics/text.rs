//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{Counter, CounterFamily, Family, Gauge, Histogram, LabelSet, LabelValue};

/// Media type of the Prometheus text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metric that is shown as the series of a family.
pub trait Shown {
    /// Type of the metric.
    const TYPE: &'static str;

    /// Returns true if the metric has counted nothing yet.
    fn is_unused(&self) -> bool;

    /// Writes the samples of the metric.
    fn write(&self, text: &mut Exposition, name: &str, labels: &[(&str, &str)]);
}

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
        self.describe(name, Histogram::TYPE, help);
        histogram.write(self, name, &[]);
    }

    /// Writes the metrics of a family, told apart by `labels`: those that have counted something, and those
    /// that `is_expected` to. Where several labels multiply, most combinations never occur.
    pub fn family<S: LabelSet, M: Shown>(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        family: &Family<S, M>,
        is_expected: impl Fn(S) -> bool,
    ) {
        self.family_with(name, help, &[], labels, family, is_expected);
    }

    /// Writes the metrics of a family as [`family`](Self::family) does, with labels before its own that all of
    /// them share.
    pub fn family_with<S: LabelSet, M: Shown>(
        &mut self,
        name: &str,
        help: &str,
        shared: &[(&'static str, &'static str)],
        labels: &[&'static str],
        family: &Family<S, M>,
        is_expected: impl Fn(S) -> bool,
    ) {
        self.describe(name, M::TYPE, help);
        for (set, metric) in family.iter().filter(|(set, metric)| !metric.is_unused() || is_expected(*set)) {
            let own = labels.iter().copied().zip(set.values());
            let pairs: Vec<(&str, &str)> = shared.iter().copied().chain(own).collect();
            metric.write(self, name, &pairs);
        }
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
        self.series(name, "gauge", help, series);
    }

    /// Writes the series of a counter: the values of its labels, and its count.
    pub fn counter_series<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
    ) {
        self.series(name, "counter", help, series);
    }

    /// Writes the series of a histogram: the values of its labels, and the histogram.
    pub fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'a str, &'a str); N], &'a Histogram)>,
    ) {
        self.describe(name, Histogram::TYPE, help);
        for (labels, histogram) in series {
            histogram.write(self, name, &labels);
        }
    }

    fn series<'a, const N: usize>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
    ) {
        self.describe(name, kind, help);
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

// === impl Shown ===

impl Shown for Counter {
    const TYPE: &'static str = "counter";

    fn is_unused(&self) -> bool {
        self.get() == 0
    }

    fn write(&self, text: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        text.sample(name, "", labels, self.get());
    }
}

impl Shown for Gauge {
    const TYPE: &'static str = "gauge";

    fn is_unused(&self) -> bool {
        self.get() == 0
    }

    fn write(&self, text: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        text.sample(name, "", labels, self.get());
    }
}

impl Shown for Histogram {
    const TYPE: &'static str = "histogram";

    fn is_unused(&self) -> bool {
        self.count() == 0
    }

    fn write(&self, text: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        let mut count = 0;
        for (bound, cumulative) in self.cumulative() {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            text.sample(name, "_bucket", &labels, cumulative);
            count = cumulative;
        }
        text.sample(name, "_sum", labels, self.sum());
        // The count of the last bucket, so that both agree while others count.
        text.sample(name, "_count", labels, count);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[test]
    fn families_show_the_combinations_that_count_or_are_expected() {
        let counters: Family<(Color, Color), Counter> = Family::default();
        let sizes = Family::new(|| Histogram::of_bytes(&[1024.0]));
        counters.of((Color::Blue, Color::Red)).increment();
        sizes.of((Color::Red,)).observe_bytes(1024);
        sizes.of((Color::Red,)).observe_bytes(5000);
        let mut text = Exposition::default();
        let are_red = |(one, other)| one == Color::Red && other == Color::Red;
        text.family("f_total", "Pairs.", &["one", "other"], &counters, are_red);
        text.family("g_bytes", "Sizes.", &["color"], &sizes, |_| false);
        assert_eq!(
            text.into_text(),
            "# HELP f_total Pairs.\n# TYPE f_total counter\n\
             f_total{one=\"red\",other=\"red\"} 0\nf_total{one=\"blue\",other=\"red\"} 1\n\
             # HELP g_bytes Sizes.\n# TYPE g_bytes histogram\n\
             g_bytes_bucket{color=\"red\",le=\"1024\"} 1\ng_bytes_bucket{color=\"red\",le=\"+Inf\"} 2\n\
             g_bytes_sum{color=\"red\"} 6024\ng_bytes_count{color=\"red\"} 2\n"
        );
    }

    #[test]
    fn the_place_of_a_combination_leads_back_to_it() {
        type Set = (Color, Color, Color);
        for index in 0..Set::COUNT {
            assert_eq!(Set::at(index).index(), index);
        }
    }
}
