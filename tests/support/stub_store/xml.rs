//! The little of XML that the interfaces need.

/// Escapes a text for an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn unescape(text: &str) -> String {
    let quotes = text.replace("&quot;", "\"").replace("&#34;", "\"").replace("&apos;", "'");
    quotes.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Returns the contents of all elements of a name, without attributes, as they stand.
pub(super) fn elements<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let behind = document.split(&open).skip(1);
    behind.filter_map(|rest| rest.split_once(&close).map(|(content, _)| content)).collect()
}

/// Returns the text of the first element of a name.
pub(super) fn text(document: &str, name: &str) -> Option<String> {
    elements(document, name).first().map(|content| unescape(content))
}
