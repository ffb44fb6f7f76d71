//! Typed values from untyped ones. Pure.
//!
//! Errors say what is wrong and how to write it, and never quote the value: the caller decides whether it is
//! secret.

use std::num::NonZeroU32;

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use quinistry_http::client_address::TrustedProxies;
use regex_lite::Regex;

use super::listen_address::ListenAddress;
use super::scalar::{self, WrittenDuration};
use super::schema::Kind;
use super::tree::{ConfigNode, NodeKind, TreeEntry};
use crate::api::response::extra_headers::is_framing;
use crate::api::validation::any_of;

/// Most values of all headers together.
const MAX_HEADER_VALUES: usize = 100;

/// Problem of a value, or of one inside it.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    /// Value that has the problem.
    pub(super) node: &'a ConfigNode,
    /// Name of the value inside a map.
    pub(super) name: Option<&'a str>,
    /// Predicate: `must be …`, `is not …`.
    pub(super) message: String,
}

type CheckedValue<'a, T> = Result<T, Problem<'a>>;

fn problem(node: &ConfigNode, message: impl Into<String>) -> Problem<'_> {
    Problem { node, name: None, message: message.into() }
}

/// Checks a value that is not null against a type without sections.
pub(super) fn check(kind: Kind, node: &ConfigNode) -> CheckedValue<'_, ()> {
    match kind {
        Kind::Section | Kind::Elements | Kind::Anything => Ok(()),
        Kind::Boolean => boolean(node).map(drop),
        Kind::Integer(least) => integer(node, least).map(drop),
        Kind::Duration => duration(node).map(drop),
        Kind::Size => size(node).map(drop),
        // The address may be the path of a unix socket; the rules check it together with `http.net`.
        Kind::Text | Kind::Path | Kind::Address => text(node).map(drop),
        Kind::OneOf(options) => one_of(node, options).map(drop),
        Kind::Endpoint => endpoint(node).map(drop),
        Kind::Url => url(node).map(drop),
        Kind::UrlPath => url_path(node).map(drop),
        Kind::Texts => texts(node).map(drop),
        Kind::ListOf(options) => list(node, |item| one_of(item, options)).map(drop),
        Kind::Patterns => patterns(node).map(drop),
        Kind::Networks => proxies(node).map(drop),
        Kind::Headers => headers(node).map(drop),
        Kind::TextMap => text_map(node).map(drop),
        Kind::TextsMap => texts_map(node).map(drop),
        Kind::Version => version(node),
    }
}

pub(super) fn text(node: &ConfigNode) -> CheckedValue<'_, &str> {
    node.as_text().ok_or_else(|| problem(node, "must be text"))
}

pub(super) fn boolean(node: &ConfigNode) -> CheckedValue<'_, bool> {
    let read = node.as_text().and_then(scalar::boolean);
    read.ok_or_else(|| problem(node, "must be true or false"))
}

pub(super) fn integer(node: &ConfigNode, least: i64) -> CheckedValue<'_, i64> {
    let read = node.as_text().and_then(scalar::integer);
    let number = read.ok_or_else(|| problem(node, "must be a whole number"))?;
    if number < least {
        return Err(problem(node, format!("must not be less than {least}")));
    }
    Ok(number)
}

pub(super) fn duration(node: &ConfigNode) -> CheckedValue<'_, WrittenDuration> {
    let Some(text) = node.as_text() else { return Err(problem(node, "must be a duration, such as 30s")) };
    scalar::duration(text).map_err(|message| problem(node, message))
}

pub(super) fn size(node: &ConfigNode) -> CheckedValue<'_, u64> {
    let read = node.as_text().and_then(scalar::size);
    read.ok_or_else(|| problem(node, "must be a number of bytes, such as 65536, 64KiB or 256MiB"))
}

pub(super) fn one_of<'a>(
    node: &'a ConfigNode,
    options: &'static [&'static str],
) -> CheckedValue<'a, &'static str> {
    let text = text(node)?;
    let found = options.iter().find(|option| option.eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| problem(node, format!("must be one of {}", options.join(", "))))
}

/// Returns the name of a signature algorithm, which configurations may write in any case.
pub(super) fn algorithm(text: &str) -> &str {
    let names = super::keys::ALGORITHMS;
    names.iter().find(|name| name.eq_ignore_ascii_case(text)).copied().unwrap_or(text)
}

/// Reads an address to listen on.
pub(super) fn address(node: &ConfigNode, is_unix: bool) -> CheckedValue<'_, ListenAddress> {
    let text = text(node)?;
    let read = if is_unix { ListenAddress::unix(text) } else { text.parse() };
    read.map_err(|error| problem(node, error.to_string()))
}

/// Reads a host and a port to connect to.
pub(super) fn endpoint(node: &ConfigNode) -> CheckedValue<'_, String> {
    let address = address(node, false)?;
    match &address {
        ListenAddress::Tcp { host: super::model::ListenHost::All, .. } => {
            Err(problem(node, "needs a host in front of the port"))
        }
        _ => Ok(address.to_string()),
    }
}

pub(super) fn url(node: &ConfigNode) -> CheckedValue<'_, Uri> {
    let uri: Uri = text(node)?.parse().map_err(|_| problem(node, "is not a valid URL"))?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if is_web && has_host { Ok(uri) } else { Err(problem(node, "must be a URL like https://HOST:PORT")) }
}

pub(super) fn url_path(node: &ConfigNode) -> CheckedValue<'_, PathAndQuery> {
    let text = text(node)?;
    let is_clean = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte));
    let has_dots = text.split('/').any(|part| matches!(part, "." | ".."));
    if !is_clean || has_dots || text.contains("//") {
        return Err(problem(node, "must be a path of letters, digits, -, _, . and ~, such as /registry/"));
    }
    let path = if text.starts_with('/') { text.parse() } else { format!("/{text}").parse() };
    path.map_err(|_| problem(node, "is not a valid path"))
}

/// Reads a list. A single value is refused, as in distribution.
pub(super) fn list<'a, T>(
    node: &'a ConfigNode,
    mut item: impl FnMut(&'a ConfigNode) -> CheckedValue<'a, T>,
) -> CheckedValue<'a, Vec<T>> {
    let items = node.as_list().ok_or_else(|| problem(node, "must be a list, such as [a, b]"))?;
    items.iter().map(&mut item).collect()
}

pub(super) fn texts(node: &ConfigNode) -> CheckedValue<'_, Vec<&str>> {
    list(node, text)
}

/// Reads regular expressions that compile, each alone and all together.
pub(super) fn patterns(node: &ConfigNode) -> CheckedValue<'_, Vec<String>> {
    let texts = texts(node)?;
    list(node, |item| {
        let invalid = |error| problem(item, format!("is not a valid regular expression: {error}"));
        Regex::new(text(item)?).map_err(invalid)
    })?;
    any_of(texts.iter().copied())
        .map_err(|_| problem(node, "needs too much memory as a whole; use fewer or shorter expressions"))?;
    Ok(texts.into_iter().map(str::to_owned).collect())
}

/// Reads networks, addresses, and the word `unix`.
pub(super) fn proxies(node: &ConfigNode) -> CheckedValue<'_, TrustedProxies> {
    let mut proxies = TrustedProxies::default();
    list(node, |item| {
        proxies.add(text(item)?).map_err(|_| {
            problem(item, "must be a network such as 10.0.0.0/8, an address, or unix for unix sockets")
        })
    })?;
    Ok(proxies)
}

pub(super) fn headers(node: &ConfigNode) -> CheckedValue<'_, HeaderMap> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        return Err(problem(node, "must be a map from a header to a list of values"));
    }
    let mut headers = HeaderMap::new();
    for entry in node.entries() {
        let fail = |node, message: &str| Problem { node, name: Some(&entry.key), message: message.into() };
        let name: HeaderName =
            entry.key.parse().map_err(|_| fail(&entry.value, "is not a valid name of a header"))?;
        if is_framing(&name) {
            return Err(fail(&entry.value, "must not be set: it frames the message"));
        }
        if entry.value.is_null() {
            continue;
        }
        let Some(values) = entry.value.as_list() else {
            return Err(fail(&entry.value, "must be a list of values, such as [nosniff]"));
        };
        for value in values {
            let text = value.as_text().ok_or_else(|| fail(value, "must be text"))?;
            let value = HeaderValue::from_str(text)
                .map_err(|_| fail(value, "must be one line of visible characters"))?;
            if headers.len() >= MAX_HEADER_VALUES {
                return Err(problem(node, "must not hold more than 100 values"));
            }
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

pub(super) fn text_map(node: &ConfigNode) -> CheckedValue<'_, Vec<(String, String)>> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        return Err(problem(node, "must be a map from a name to a text"));
    }
    node.entries().iter().map(text_entry).collect()
}

fn text_entry(entry: &TreeEntry) -> CheckedValue<'_, (String, String)> {
    match entry.value.as_text() {
        Some(text) => Ok((entry.key.to_string(), text.to_owned())),
        None => Err(Problem { node: &entry.value, name: Some(&entry.key), message: "must be text".into() }),
    }
}

pub(super) fn texts_map(node: &ConfigNode) -> CheckedValue<'_, Vec<(String, Vec<String>)>> {
    if !matches!(node.kind, NodeKind::Map(_)) {
        return Err(problem(node, "must be a map from a name to a list of texts"));
    }
    let mut all = Vec::new();
    for one in node.entries() {
        match texts(&one.value) {
            Ok(texts) => all.push((one.key.to_string(), texts.into_iter().map(str::to_owned).collect())),
            Err(problem) => return Err(Problem { name: Some(&one.key), ..problem }),
        }
    }
    Ok(all)
}

/// Reads a number of failures, of which 0 stands for 1.
pub(super) fn threshold(node: &ConfigNode) -> CheckedValue<'_, NonZeroU32> {
    let number = u32::try_from(integer(node, 0)?).map_err(|_| problem(node, "is too large"))?;
    Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
}

fn version(node: &ConfigNode) -> CheckedValue<'_, ()> {
    match node.as_text() {
        Some("0.1") => Ok(()),
        _ => Err(problem(node, "must be 0.1; write `version: 0.1`")),
    }
}
