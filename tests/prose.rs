//! The language of comments: openings, pronouns and words that make a comment hard to read.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

/// Folders with Rust sources of ours.
const FOLDERS: [&str; 5] = ["src", "tests", "benches", "e2e", "fuzz"];

/// First words that no doc comment begins with: the reader would have to guess the noun.
const FORBIDDEN_OPENINGS: [&str; 9] =
    ["what", "how", "whether", "so many", "the same", "it", "of", "which", "why"];

/// Words that no comment contains: they hide the actor or the time.
const FORBIDDEN_WORDS: [&str; 5] = ["nobody", "somebody", "whoever", "anew", "meanwhile"];

/// Words that tell nothing when a comment consists of them alone.
const PRONOUNS: [&str; 36] = [
    "a", "all", "an", "another", "both", "each", "either", "her", "here", "his", "how", "it", "its", "none",
    "of", "one", "ones", "other", "others", "same", "that", "the", "their", "them", "there", "these", "they",
    "this", "those", "what", "when", "where", "which", "who", "whose", "why",
];

/// Beginnings of declarations that are not exported; lints ask for no comment there.
const PRIVATE_ITEMS: [&str; 12] = [
    "async fn ",
    "const ",
    "enum ",
    "fn ",
    "mod ",
    "pub(",
    "static ",
    "struct ",
    "trait ",
    "type ",
    "union ",
    "use ",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `///`
    Item,
    /// `//!`
    Module,
    /// `//` and `/* */`
    Plain,
}

/// One line of a comment.
#[derive(Debug)]
struct Comment {
    /// Line number, from 1.
    line: usize,
    kind: Kind,
    text: String,
}

/// A violation of the rules.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    line: usize,
    message: String,
}

/// Returns the position after a literal that begins at `at`, if a string or character literal begins there.
fn skip_literal(source: &[char], at: usize) -> Option<usize> {
    let is = |at: usize, c: char| source.get(at) == Some(&c);
    let follows_word = at > 0 && (source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    if source[at] == '"' {
        let mut end = at + 1;
        while end < source.len() && !is(end, '"') {
            end += if is(end, '\\') { 2 } else { 1 };
        }
        return Some(end + 1);
    }
    if source[at] == 'r' && (!follows_word || matches!(source[at - 1], 'b' | 'c')) {
        let hashes = source[at + 1..].iter().take_while(|c| **c == '#').count();
        if !is(at + 1 + hashes, '"') {
            return None;
        }
        let mut end = at + 2 + hashes;
        while end < source.len() && !(is(end, '"') && (1..=hashes).all(|n| is(end + n, '#'))) {
            end += 1;
        }
        return Some(end + 1 + hashes);
    }
    if source[at] == '\'' {
        if is(at + 1, '\\') {
            let length = source[at + 3..].iter().take_while(|c| **c != '\'').count();
            return Some(at + 3 + length + 1);
        }
        // Otherwise a lifetime.
        return is(at + 2, '\'').then_some(at + 3);
    }
    None
}

/// Returns all comments of a Rust source, line by line.
fn comments(source: &str) -> Vec<Comment> {
    let source: Vec<char> = source.chars().collect();
    let mut comments = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < source.len() {
        let begin = at;
        if source[at..].starts_with(&['/', '/']) {
            at += source[at..].iter().take_while(|c| **c != '\n').count();
            let text: String = source[begin..at].iter().collect();
            let (kind, text) = match text.as_bytes() {
                [_, _, b'!', ..] => (Kind::Module, &text[3..]),
                [_, _, b'/', next, ..] if *next == b'/' => (Kind::Plain, &text[2..]),
                [_, _, b'/', ..] => (Kind::Item, &text[3..]),
                _ => (Kind::Plain, &text[2..]),
            };
            comments.push(Comment { line, kind, text: text.trim().to_owned() });
        } else if source[at..].starts_with(&['/', '*']) {
            let mut depth = 0;
            loop {
                match source[at..] {
                    ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
                    ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 || at >= source.len() {
                    break;
                }
            }
            let text: String = source[begin..at.min(source.len())].iter().collect();
            for (offset, text) in text.lines().enumerate() {
                let text = text.trim_matches(['/', '*', ' ']).to_owned();
                comments.push(Comment { line: line + offset, kind: Kind::Plain, text });
            }
        } else {
            at = skip_literal(&source, at).unwrap_or(at + 1);
        }
        line += source[begin..at.min(source.len())].iter().filter(|c| **c == '\n').count();
    }
    comments
}

/// Returns the words of a text in lower case, without punctuation.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Returns the declaration after line `line`, behind attributes and comments.
fn declaration<'a>(lines: &[&'a str], line: usize) -> &'a str {
    let mut open_brackets = 0;
    for text in &lines[line.min(lines.len())..] {
        let text = text.trim();
        if open_brackets > 0 || text.starts_with("#[") {
            open_brackets += text.matches('[').count();
            open_brackets = open_brackets.saturating_sub(text.matches(']').count());
        } else if !text.starts_with("//") {
            return text;
        }
    }
    ""
}

/// Returns all violations in a Rust source.
fn findings(source: &str) -> Vec<Finding> {
    let lines: Vec<&str> = source.lines().collect();
    let comments = comments(source);
    let mut findings = Vec::new();
    let blocks = comments.chunk_by(|one, next| one.kind == next.kind && one.line + 1 == next.line);
    for block in blocks {
        let first = &block[0];
        let mut report = |line, message| findings.push(Finding { line, message });
        if first.kind != Kind::Plain {
            let opening = words(&first.text).join(" ");
            let opens_with = |forbidden: &&&str| {
                opening.strip_prefix(**forbidden).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            };
            if let Some(forbidden) = FORBIDDEN_OPENINGS.iter().find(opens_with) {
                report(first.line, format!("opens with \"{forbidden}\": {}", first.text));
            }
        }
        let all: Vec<String> = block.iter().flat_map(|comment| words(&comment.text)).collect();
        if !all.is_empty() && all.iter().all(|word| PRONOUNS.contains(&word.as_str())) {
            report(first.line, format!("consists of pronouns: {}", first.text));
        } else if first.kind == Kind::Item && all.len() <= 2 {
            let declaration = declaration(&lines, block[block.len() - 1].line);
            if PRIVATE_ITEMS.iter().any(|item| declaration.starts_with(item)) {
                report(first.line, format!("is too short for a private item, delete it: {}", first.text));
            }
        }
        for comment in block {
            for word in words(&comment.text) {
                if FORBIDDEN_WORDS.contains(&word.as_str()) {
                    report(comment.line, format!("says \"{word}\": {}", comment.text));
                }
            }
        }
    }
    findings
}

/// Returns the paths of all Rust sources below `folder`, relative to the root, in order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "target" {
                sources.extend(self::sources(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    sources.sort();
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn comments_are_in_plain_words() {
    let mut found = Vec::new();
    for path in FOLDERS.iter().flat_map(|folder| sources(Path::new(folder))) {
        let source = std::fs::read_to_string(root().join(&path)).unwrap();
        let findings = findings(&source).into_iter();
        found
            .extend(findings.map(|Finding { line, message }| format!("{}:{line} {message}", path.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn each_rule_finds_its_violation_and_nothing_in_literals() {
    let source = r##"//! Which it is.

/// A number.
pub const A: &str = "// nobody \" /// What";
/// It.
const B: char = '"'; // Written anew.
/// So many
/// pieces are kept.
fn c<'a>(d: &'a str) -> char { '\'' }
/// Its name.
#[cfg(any(
    test,
))]
fn e() {}
/// A name.
pub fn f() {}
const G: &str = r#" // somebody " "#; /* whoever
meanwhile */
"##;
    let found: Vec<_> = findings(source).into_iter().map(|finding| (finding.line, finding.message)).collect();
    let expected = [
        (1, "opens with \"which\": Which it is."),
        (5, "opens with \"it\": It."),
        (5, "consists of pronouns: It."),
        (6, "says \"anew\": Written anew."),
        (7, "opens with \"so many\": So many"),
        (10, "is too short for a private item, delete it: Its name."),
        (17, "says \"whoever\": whoever"),
        (18, "says \"meanwhile\": meanwhile"),
    ];
    assert_eq!(found, expected.map(|(line, message)| (line, message.to_owned())));
}
