//! The lists of tags and of repositories, in pages (distribution-spec, section Listing Tags).

use axum::response::Response;
use http::HeaderValue;
use http::header::LINK;
use serde::Serialize;

use super::body::json;
use super::error::Error;
use crate::oci::{RepositoryName, Tag};
use crate::quine;

/// Longest page, and the length of one when the client names none.
const MAX_PAGE: usize = 1000;

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: Vec<&'a str>,
}

pub(super) fn tags(name: &RepositoryName, tags: &[Tag], query: &str) -> Result<Response, Error> {
    let page = Page::of(tags.iter().map(Tag::as_str), query)?;
    let next = page.link(&format!("/v2/{name}/tags/list"));
    Ok(with_link(json(&TagList { name: name.as_str(), tags: page.items }), next))
}

pub(super) fn catalog(query: &str) -> Result<Response, Error> {
    let page = Page::of([quine::REPOSITORY].into_iter(), query)?;
    let next = page.link("/v2/_catalog");
    Ok(with_link(json(&Catalog { repositories: page.items }), next))
}

fn with_link(mut response: Response, link: Option<String>) -> Response {
    if let Some(link) = link {
        response.headers_mut().insert(LINK, HeaderValue::try_from(link).expect("names and tags are ASCII"));
    }
    response
}

/// A stretch of a sorted list.
#[derive(Debug, PartialEq, Eq)]
struct Page<'a> {
    items: Vec<&'a str>,
    size: usize,
    more: bool,
}

impl<'a> Page<'a> {
    fn of(sorted: impl Iterator<Item = &'a str>, query: &str) -> Result<Self, Error> {
        let value = |key: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == key).map(|(_, value)| value)
        };
        let size = match value("n") {
            None => MAX_PAGE,
            Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                // More than fits in a number is more than the longest page.
                n.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
            }
            Some(_) => return Err(Error::PageSize),
        };
        let last = value("last").unwrap_or_default();
        let mut rest = sorted.skip_while(|item| !last.is_empty() && *item <= last.as_ref());
        let items: Vec<&str> = rest.by_ref().take(size).collect();
        Ok(Self { more: !items.is_empty() && rest.next().is_some(), items, size })
    }

    /// RFC 8288, relative to the host.
    fn link(&self, path: &str) -> Option<String> {
        let last = self.items.last().filter(|_| self.more)?;
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("n", &self.size.to_string())
            .append_pair("last", last)
            .finish();
        Some(format!("<{path}?{query}>; rel=\"next\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> (Vec<&'static str>, Option<String>) {
        let page = Page::of(["a", "b", "c"].into_iter(), query).unwrap();
        let link = page.link("/x");
        (page.items, link)
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(page(""), (vec!["a", "b", "c"], None));
        assert_eq!(page("n=2"), (vec!["a", "b"], Some("</x?n=2&last=b>; rel=\"next\"".into())));
        assert_eq!(page("n=2&last=b"), (vec!["c"], None));
        assert_eq!(page("last=a"), (vec!["b", "c"], None));
        assert_eq!(page("last=aa"), (vec!["b", "c"], None));
        assert_eq!(page("last=zzz%00%22"), (vec![], None));
    }

    #[test]
    fn no_page_size_is_too_odd() {
        assert_eq!(page("n=0"), (vec![], None));
        assert_eq!(page("n=1000000000000000000000"), (vec!["a", "b", "c"], None));
        for query in ["n=-1", "n=abc", "n=", "n=1.5", "n=%2B1"] {
            assert_eq!(Page::of(["a"].into_iter(), query), Err(Error::PageSize), "{query}");
        }
    }
}
