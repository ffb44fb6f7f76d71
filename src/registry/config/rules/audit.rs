//! Checks of the place of the audit log, which is a word or a path.

use super::super::check::quote;
use super::super::findings::Findings;
use super::super::tree::ConfigNode;

/// Key of the place.
const PATH: &str = "quinistry.audit.path";

/// Words that are no path.
const WORDS: [&str; 2] = ["off", "stdout"];

/// Booleans of YAML 1.1 (yaml.org/type/bool.html), in lower case, without `off`.
const BOOLEANS: [&str; 7] = ["no", "false", "n", "on", "yes", "true", "y"];

/// Refuses words that are probably no name of a file, and warns about a name without a folder.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    let Some(node) = tree.at(PATH) else { return };
    let Some(text) = node.as_text().filter(|text| !text.is_empty() && !WORDS.contains(text)) else { return };
    let lower = text.to_ascii_lowercase();
    let text = quote(text);
    if BOOLEANS.contains(&lower.as_str()) {
        let message = format!(
            "is {text}, a boolean in YAML 1.1; write off or stdout, or ./{text} for a file of this name"
        );
        findings.error(&node.origin, PATH, message);
    } else if WORDS.contains(&lower.as_str()) {
        let message = format!("write {lower} in lower case, or ./{text} for a file of this name");
        findings.error(&node.origin, PATH, message);
    } else if !text.contains('/') {
        let message = format!(
            "\"{text}\" is a file in the folder in which `serve` is started; write an absolute path, stdout or off"
        );
        findings.warn(&node.origin, PATH, message);
    }
}
