//! The documents: links between them lead somewhere, and README.md stays a front page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Maximum length of README.md, in lines.
const MAX_README_LINES: usize = 200;

/// Documents outside docs/. Those that do not exist are skipped.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "ARCHITECTURE.md",
    "charts/quinistry/README.md",
    "charts/quinistry-registry/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the paths of all documents, relative to the root.
fn documents() -> Vec<PathBuf> {
    let pages = std::fs::read_dir(root().join("docs")).unwrap();
    let pages = pages.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let others = DOCUMENTS.iter().map(PathBuf::from).filter(|path| root().join(path).exists());
    let mut documents: Vec<_> = others.chain(pages).collect();
    documents.sort();
    documents
}

/// Returns the lines of a Markdown text that are not in fenced code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    });
    lines.collect()
}

/// Removes code spans from a line: `[a](b)` in one is no link.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// Returns the targets of inline links and images in a line.
fn links(line: &str) -> Vec<String> {
    let line = without_code(line);
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.to_owned())
        .collect()
}

/// Returns the anchors of a document, as GitHub derives them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// Resolves `..` and `.` without asking the filesystem. Returns `None` for paths outside the root.
fn normalize(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// Explains why a link leads nowhere, or returns `None` for one that resolves or leads to another host.
fn problem(document: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => Some(document.to_owned()),
        path => normalize(&document.parent().unwrap_or(Path::new("")).join(path)),
    };
    let Some(target) = target else { return Some("leads out of the repository".into()) };
    let file = root().join(&target);
    if !file.exists() {
        return Some(format!("{} does not exist", target.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let found = std::fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor));
    (!found).then(|| format!("{} has no heading #{anchor}", target.display()))
}

#[test]
fn links_between_documents_resolve() {
    let documents = documents();
    assert!(documents.len() > 5, "{documents:?}");
    let mut broken = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(root().join(&document)).unwrap();
        for link in prose(&text).into_iter().flat_map(links) {
            if let Some(problem) = problem(&document, &link) {
                broken.push(format!("{}: {link}: {problem}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn every_page_is_in_the_index() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    for document in documents() {
        let Ok(page) = document.strip_prefix("docs") else { continue };
        let link = format!("]({})", page.display());
        assert!(
            page == Path::new("README.md") || index.contains(&link),
            "docs/README.md lacks {}",
            page.display()
        );
    }
}

#[test]
fn the_readme_is_a_front_page() {
    let lines = std::fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines; move what is longer to docs/");
}

#[test]
fn headings_give_the_anchors_that_github_gives() {
    let text =
        "# Move from `registry:2`\n```\n# not a heading\n```\n## Why `--bootstrap`\n## Twice\n## Twice\n#tag";
    let expected = ["move-from-registry2", "twice", "twice-1", "why---bootstrap"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
    assert_eq!(links("a [b](c.md#d), ![e](f.svg) and `[g](h)`"), ["c.md#d", "f.svg"]);
}
