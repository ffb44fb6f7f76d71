//! `docs/retention.md`: each example of the page has the outcome that the page says.

use std::path::Path;
use std::time::Duration;

use super::{ExampleTag, config, days, judge, judge_untagged};
use crate::retention::compile;

/// Examples that the page promises.
const EXAMPLES: usize = 10;

/// Time for which pulls are recorded, unless an example says otherwise.
const RECORDED: Duration = days(400);

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/retention.md");
    std::fs::read_to_string(path).unwrap()
}

/// Reads an age such as `20d` or `5h`; `None` for an empty cell.
fn age(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("an age: {text:?}"));
    match unit {
        "d" => Some(days(number)),
        "h" => Some(Duration::from_hours(number)),
        _ => panic!("an age in days or hours: {text:?}"),
    }
}

/// Returns the fenced blocks of a text in a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = text.split(&begin).skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).collect()
}

/// Returns the cells of the rows below each header of tables that begin with `header`.
fn rows<'a>(text: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut is_within = false;
    for line in text.lines() {
        if line.starts_with(header) {
            is_within = true;
        } else if !line.starts_with('|') {
            is_within = false;
        } else if is_within && !line.starts_with("|---") {
            let line = line.trim_matches('|');
            rows.push(line.split('|').map(|cell| cell.trim().trim_matches('`')).collect());
        }
    }
    rows
}

#[test]
fn each_example_has_the_outcome_that_the_page_says() {
    let page = page();
    let sections = page.split("\n### ").filter(|section| section.starts_with(|c: char| c.is_ascii_digit()));
    let mut examples = 0;
    for section in sections {
        let section = section.split("\n## ").next().unwrap();
        let title = section.lines().next().unwrap();
        examples += 1;
        let [policy] = &blocks(section, "yaml")[..] else { panic!("{title}: one policy") };
        let policies = compile(&config(policy)).unwrap();
        let since = section.split_once("recorded since **").and_then(|(_, rest)| rest.split_once("**"));
        let recorded = Some(since.and_then(|(since, _)| age(since)).unwrap_or(RECORDED));

        let rows_of_tags = rows(section, "| repository | tag |");
        assert!(!rows_of_tags.is_empty(), "{title}: a table");
        let tags: Vec<_> = rows_of_tags
            .iter()
            .map(|row| {
                let [repository, tag, image, pushed, pulled, _] = row[..] else { panic!("{title}: {row:?}") };
                ExampleTag {
                    repository: repository.into(),
                    tag: tag.into(),
                    image: image.into(),
                    pushed: age(pushed).unwrap(),
                    pulled: age(pulled),
                }
            })
            .collect();
        for (row, verdict) in rows_of_tags.iter().zip(judge(&policies, recorded, &tags)) {
            let fate = if verdict.deletes() { "deleted" } else { "stays" };
            assert_eq!(row[5], format!("{fate}: {verdict}"), "{title}: {row:?}");
        }

        let rows_of_manifests = rows(section, "| repository | manifest |");
        let manifests: Vec<_> = rows_of_manifests
            .iter()
            .map(|row| {
                let [repository, image, pushed, pulled, _] = row[..] else { panic!("{title}: {row:?}") };
                ExampleTag {
                    repository: repository.into(),
                    tag: String::new(),
                    image: image.into(),
                    pushed: age(pushed).unwrap(),
                    pulled: age(pulled),
                }
            })
            .collect();
        for (row, stays) in rows_of_manifests.iter().zip(judge_untagged(&policies, recorded, &manifests)) {
            assert_eq!(row[4], if stays { "stays" } else { "goes" }, "{title}: {row:?}");
        }
    }
    assert_eq!(examples, EXAMPLES);
}

#[test]
fn the_first_policy_of_the_page_is_accepted() {
    let page = page();
    let (begin, _) = page.split_once("## How a tag is judged").unwrap();
    let block = blocks(begin, "yaml").remove(0);
    // The block is part of a list, and indented.
    let lines: String = block.lines().map(|line| line.get(3..).unwrap_or("").to_owned() + "\n").collect();
    let config = config(&lines);
    assert!(config.dry_run);
    assert_eq!(config.policies.len(), 1);
}
