//! Lists of tags and of repositories, in pages (distribution-spec, section Listing Tags).

mod cursor;

use axum::response::Response;
use http::HeaderValue;
use http::header::LINK;
use quinistry_oci::{RepositoryName, Tag};
use quinistry_quine::REPOSITORY;
use quinistry_store::{ListWalk, Page, Store};
use serde::Serialize;

use crate::api::query::Query;
use crate::api::response::body::json_within_budget;
use crate::api::response::error::Error;
use crate::auth::caller::Caller;
use crate::builtin::Builtin;
use crate::{LimitedStore, PageLimits, Settings};

/// Most names of repositories that are looked at for one page of a client that may not read all of them.
const MAX_SEEN_NAMES: usize = 1000;

#[derive(Serialize)]
#[serde(bound = "")]
struct TagListResponse<'a, T: Iterator<Item = &'a str> + Clone> {
    name: &'a str,
    tags: Sequence<T>,
}

/// Items that are serialised one by one.
struct Sequence<T>(T);

impl<'a, T: Iterator<Item = &'a str> + Clone> Serialize for Sequence<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

#[derive(Serialize)]
struct CatalogResponse {
    repositories: Vec<String>,
}

/// Lists sorted tags that are in memory, as those of the built-in repository.
pub(crate) async fn known_tags(
    name: &RepositoryName,
    tags: &[Tag],
    query: Query<'_>,
    limits: PageLimits,
) -> Result<Response, Error> {
    let page = parse_page(query, limits.tags)?;
    let sorted = tags.iter().map(ToString::to_string);
    let (tags, more) = page.of(sorted, |tag| Ok::<_, Error>(Some(tag.to_owned())))?;
    tag_list(name, tags.iter().map(String::as_str), more, &page, None).await
}

/// Lists the tags of a repository in the store.
pub(crate) async fn tags(
    stored: &LimitedStore,
    name: RepositoryName,
    query: Query<'_>,
    limits: PageLimits,
) -> Result<Response, Error> {
    let page = parse_page(query, limits.tags)?;
    let (of, wanted) = (name.clone(), page.clone());
    let _permit = stored.list_permits.acquire().await.expect("the semaphore is never closed");
    // A link to the next page names its walk. One that cannot be read is none of this registry's.
    let walk = query.first("walk").and_then(|walk| walk.parse().ok());
    let list = stored.run(move |store| store.tags_of_walk(&of, &wanted, walk)).await?;
    tag_list(&name, list.tags(), list.has_more, &page, list.walk).await
}

/// Lists the repositories that the client may read, including the built-in one, and those that names of images are in.
pub(crate) async fn catalog(
    stored: Option<&LimitedStore>,
    has_builtin: bool,
    caller: &Caller,
    query: Query<'_>,
    settings: &Settings,
) -> Result<Response, Error> {
    let mut page = parse_page(query, settings.pages.repositories)?;
    if caller.known().is_some()
        && let Some(hidden) = cursor::open(&page.last)?
    {
        page.last = hidden;
    }
    let lists_builtin = has_builtin && caller.may_read_builtin(&builtin_name());
    let (mut repositories, mut next): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut _permit = None;
    if let Some(stored) = stored {
        _permit = Some(stored.list_permits.acquire().await.expect("the semaphore is never closed"));
        let (wanted, caller) = (page.clone(), caller.clone());
        let list = move |store: &Store| {
            let max_seen = if caller.known().is_some() { MAX_SEEN_NAMES } else { usize::MAX };
            store.listed_repositories(&wanted, max_seen, &|name| {
                // The built-in repository hides content that was pushed under its name before.
                if has_builtin && Builtin::is_builtin(name) { lists_builtin } else { caller.lists(name) }
            })
        };
        let (names, rest) = stored.run(list).await?;
        (repositories, next) = (names.into_iter().map(String::from).collect(), rest);
    }
    let mut others: Vec<String> = Vec::new();
    if let Some(peers) = &settings.peers {
        let is_listed =
            |name: &RepositoryName| !(has_builtin && Builtin::is_builtin(name)) && caller.lists(name);
        others.extend(peers.repositories().await.into_iter().filter(is_listed).map(String::from));
    }
    if lists_builtin {
        others.push(REPOSITORY.into());
    }
    for other in others {
        if other > page.last
            && next.as_ref().is_none_or(|next| other <= *next)
            && let Err(position) = repositories.binary_search(&other)
        {
            repositories.insert(position, other);
        }
    }
    if repositories.len() > page.size {
        repositories.truncate(page.size);
        next = repositories.last().cloned();
    }
    // The page may end behind a name that the client must not learn.
    let next = next.map(|next| if repositories.last() == Some(&next) { next } else { cursor::seal(&next) });
    let link = next_link("/v2/_catalog", &page, next.as_deref(), None);
    Ok(with_link(json_within_budget(&CatalogResponse { repositories }).await?, link))
}

fn builtin_name() -> RepositoryName {
    REPOSITORY.parse().expect("the name of the built-in repository is valid")
}

async fn tag_list<'a>(
    name: &'a RepositoryName,
    tags: impl Iterator<Item = &'a str> + Clone,
    more: bool,
    page: &Page,
    walk: Option<ListWalk>,
) -> Result<Response, Error> {
    let last = if more { tags.clone().last() } else { None };
    let next = next_link(&format!("/v2/{name}/tags/list"), page, last, walk);
    let body = TagListResponse { name: name.as_str(), tags: Sequence(tags) };
    Ok(with_link(json_within_budget(&body).await?, next))
}

fn with_link(mut response: Response, link: Option<String>) -> Response {
    if let Some(link) = link {
        response.headers_mut().insert(LINK, HeaderValue::try_from(link).expect("names and tags are ASCII"));
    }
    response
}

/// Parses the requested page, of at most `max` items.
///
/// A client that requests more gets `max` items and a link to the rest. Distribution refuses such a request, so
/// that the client of a registry with a lower limit finds no list at all.
pub(crate) fn parse_page(query: Query<'_>, max: usize) -> Result<Page, Error> {
    let size = match query.first("n") {
        None => max,
        Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
            // A number that does not fit is greater than the limit.
            n.parse().unwrap_or(max).min(max)
        }
        Some(_) => return Err(Error::PageSize),
    };
    Ok(Page { size, last: query.first("last").unwrap_or_default().into_owned() })
}

/// Returns the `Link` header to the next page (RFC 8288, relative to the host), if this page has a last item.
fn next_link(path: &str, page: &Page, last: Option<&str>, walk: Option<ListWalk>) -> Option<String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("n", &page.size.to_string()).append_pair("last", last?);
    if let Some(walk) = walk {
        query.append_pair("walk", &walk.to_string());
    }
    Some(format!("<{path}?{}>; rel=\"next\"", query.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_page(query: &str) -> (Vec<String>, Option<String>) {
        let page = parse_page(Query::new(query), 3).unwrap();
        let sorted = ["a", "b", "c"].map(String::from).into_iter();
        let (items, more) = page.of(sorted, |item| Ok::<_, Error>(Some(item.to_owned()))).unwrap();
        let link = next_link("/x", &page, items.last().map(String::as_str).filter(|_| more), None);
        (items, link)
    }

    fn items(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(list_page(""), (items(&["a", "b", "c"]), None));
        assert_eq!(list_page("n=2"), (items(&["a", "b"]), Some("</x?n=2&last=b>; rel=\"next\"".into())));
        assert_eq!(list_page("n=2&last=b"), (items(&["c"]), None));
        assert_eq!(list_page("last=a"), (items(&["b", "c"]), None));
        assert_eq!(list_page("last=aa"), (items(&["b", "c"]), None));
        assert_eq!(list_page("last=zzz%00%22"), (items(&[]), None));
    }

    #[test]
    fn page_sizes_are_limited_or_refused() {
        assert_eq!(list_page("n=0"), (items(&[]), None));
        assert_eq!(list_page("n=1000000000000000000000"), (items(&["a", "b", "c"]), None));
        for (query, size) in [("", 3), ("n=2", 2), ("n=3", 3), ("n=4", 3)] {
            assert_eq!(parse_page(Query::new(query), 3).unwrap().size, size, "{query}");
        }
        for query in ["n=-1", "n=abc", "n=", "n=1.5", "n=%2B1"] {
            assert!(matches!(parse_page(Query::new(query), 3), Err(Error::PageSize)), "{query}");
        }
    }
}
