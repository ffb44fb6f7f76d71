//! Metrics of the images that a store holds by a file of names.

use quinistry_http::metrics::Exposition;

use crate::named_images::Report;

/// Writes the numbers of named images, by their states.
pub(super) fn write(page: &mut Exposition, report: &Report) {
    let states = [("complete", report.complete), ("copying", report.copying), ("absent", report.absent)];
    page.gauges(
        "quinistry_store_named_images",
        "Images of the file of names, by what this store has of them.",
        states.map(|(state, images)| ([("state", state)], images as u64)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_each_metric_with_its_values() {
        let report = Report {
            ready: true,
            names: None,
            images: 6,
            complete: 3,
            copying: 2,
            absent: 1,
            lacking: Vec::new(),
        };
        let mut page = Exposition::default();
        write(&mut page, &report);
        let text = page.into_text();
        let documentation = include_str!("../../../docs/metrics.md");
        let (description, table) = documentation.split_once("\n| metric of stores |").unwrap();
        let (_, description) = description.split_once("\n### Stores\n").unwrap();
        for (state, images) in [("complete", 3), ("copying", 2), ("absent", 1)] {
            let sample = format!("quinistry_store_named_images{{state=\"{state}\"}} {images}\n");
            assert!(text.contains(&sample), "{text}");
            assert!(description.contains(&format!("`{state}`")), "{state}");
        }
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        assert_eq!(rows.count(), text.lines().filter(|line| line.starts_with("# TYPE ")).count());
        assert!(table.contains("`quinistry_store_named_images{state}` | gauge |"));
    }
}
