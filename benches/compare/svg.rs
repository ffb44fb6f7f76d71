//! The plot of growth: four panels with logarithmic axes, as SVG that is also readable as text.

use std::fmt::Write as _;

use super::growth::Panel;
use super::peers::Peer;
use super::row::Better;
use super::table::figure;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 140.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 40.0;

/// Least distance of the names at the ends of lines, in pixels.
const MIN_LABEL_DISTANCE: f64 = 13.0;

pub(crate) fn plot(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, rows as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"#333\">\n<title>How registries grow with the number of manifests</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let (x, y) = ((number % 2) as f64 * WIDTH, (number / 2) as f64 * HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        draw(&mut svg, panel);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Maps values to positions by their logarithms.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - self.least) / (self.most - self.least);
        self.from + part * (self.to - self.from)
    }

    /// Returns the powers of ten on the axis.
    fn marks(&self) -> impl Iterator<Item = f64> + use<> {
        let (mut mark, most) = (self.least.ceil(), self.most);
        std::iter::from_fn(move || {
            let this = mark;
            mark += 1.0;
            (this <= most + 1e-9).then(|| 10_f64.powf(this))
        })
    }
}

fn draw(svg: &mut String, panel: &Panel) {
    let points = || panel.lines.iter().flat_map(|(_, points)| points);
    let lowest = points().map(|(_, value)| value.log10()).fold(f64::INFINITY, f64::min);
    let highest = points().map(|(_, value)| value.log10()).fold(f64::NEG_INFINITY, f64::max);
    let first = points().map(|(count, _)| *count).min().unwrap_or(1) as f64;
    let last = points().map(|(count, _)| *count).max().unwrap_or(1) as f64;
    let y = Axis {
        least: lowest.floor(),
        most: highest.ceil().max(lowest.floor() + 1.0),
        from: HEIGHT - BOTTOM,
        to: TOP,
    };
    let x = Axis {
        least: first.log10(),
        most: last.log10().max(first.log10() + 1.0),
        from: LEFT,
        to: WIDTH - RIGHT,
    };
    let better = if panel.better == Better::More { "more is better" } else { "less is better" };
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"13\" font-weight=\"bold\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"35\" fill=\"#777\">{}, {better}</text>",
        panel.title, panel.unit
    );
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for value in y.marks() {
        let at = y.place(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for value in x.marks() {
        let at = x.place(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {bottom}v4\" stroke=\"#999\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            bottom + 16.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#777\">manifests in the store</text>",
        f64::midpoint(LEFT, right),
        bottom + 31.0
    );
    lines(svg, panel, &x, &y);
}

fn lines(svg: &mut String, panel: &Panel, x: &Axis, y: &Axis) {
    let mut ends = Vec::new();
    for (peer, points) in &panel.lines {
        let colour = colour(*peer);
        let width = if *peer == Peer::Quinistry { 2.5 } else { 1.5 };
        let places: Vec<(f64, f64, f64)> =
            points.iter().map(|(count, value)| (x.place(*count as f64), y.place(*value), *value)).collect();
        let path: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            path.join(" ")
        );
        for (x, y, value) in &places {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"><title>{} {} {}</title></circle>",
                peer.name(),
                figure(*value),
                panel.unit
            );
        }
        if let Some((x, y, value)) = places.last() {
            ends.push((*y, *x, format!("{} {}", peer.name(), figure(*value)), colour));
        }
    }
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut bottom = f64::NEG_INFINITY;
    for (at, x, text, colour) in ends {
        bottom = at.max(bottom + MIN_LABEL_DISTANCE);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{text}</text>",
            x + 8.0,
            bottom + 4.0
        );
    }
}

/// Returns a peer's colour. Readers who cannot tell red from green can tell these colours apart.
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Quinistry => "#0072b2",
        Peer::DockerRegistry => "#d55e00",
        Peer::Distribution => "#b8860b",
        Peer::Crane => "#009e73",
        Peer::Nginx | Peer::Dd => "#777777",
    }
}
