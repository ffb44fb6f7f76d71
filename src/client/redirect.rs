//! Redirects: the next address, and the headers and the body that are sent there. RFC 9110, section 15.4.
//! Pure.

use std::borrow::Cow;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};

/// Longest chain of redirects that is followed, as in Go's clients.
pub(super) const MAX_REDIRECTS: usize = 10;

/// Request that a redirect asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Hop {
    /// Address of the request.
    pub url: Url,
    /// Method of the request.
    pub method: Method,
    /// True if the next request carries the body and its headers.
    pub with_body: bool,
}

// === impl Hop ===

impl Hop {
    /// Returns the request that no redirect has led to.
    #[must_use]
    pub fn first(method: &Method, url: &Url) -> Self {
        Self { url: url.clone(), method: method.clone(), with_body: true }
    }

    /// Returns the next request, or `None` if the response is not a redirect.
    ///
    /// Only 303 changes the method: the older habit of turning a POST into a GET on 301 and 302, which the
    /// RFC permits, would never be what a registry means.
    pub fn next(&self, status: StatusCode, headers: &HeaderMap) -> Result<Option<Self>, &'static str> {
        let see_other = match status.as_u16() {
            301 | 302 | 307 | 308 => false,
            303 => true,
            _ => return Ok(None),
        };
        let target = headers.get(LOCATION).ok_or("a redirect without a Location")?;
        let target = std::str::from_utf8(target.as_bytes()).map_err(|_| "a redirect to an invalid URL")?;
        let mut url = self.url.join(target).map_err(|_| "a redirect to an invalid URL")?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err("a redirect to a URL that is not HTTP");
        }
        if self.url.scheme() == "https" && url.scheme() != "https" {
            return Err("a redirect from https to an unprotected address");
        }
        // The HTTP library would send a name and a password from the address as credentials.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        let is_read = matches!(self.method, Method::GET | Method::HEAD);
        let method = if see_other && !is_read { Method::GET } else { self.method.clone() };
        Ok(Some(Self { url, method, with_body: self.with_body && !see_other }))
    }
}

/// Returns the text of an address without the parts that may be secret: user, password and query.
#[must_use]
pub fn address(url: &Url) -> Cow<'_, str> {
    if url.username().is_empty() && url.password().is_none() && url.query().is_none() {
        return Cow::Borrowed(url.as_str());
    }
    let mut url = url.clone();
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    Cow::Owned(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(method: &Method, from: &str, status: u16, to: &'static str) -> Result<Option<Hop>, &'static str> {
        let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
        let status = StatusCode::from_u16(status).unwrap();
        Hop::first(method, &from.parse().unwrap()).next(status, &headers)
    }

    #[test]
    fn only_303_changes_the_method_and_drops_the_body() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for status in [301, 302, 307, 308] {
                let hop = next(&method, "http://a/b?c", status, "/d?e").unwrap().unwrap();
                assert_eq!((hop.url.as_str(), &hop.method, hop.with_body), ("http://a/d?e", &method, true));
            }
            let hop = next(&method, "http://a/b", 303, "c").unwrap().unwrap();
            let expected = if method == Method::HEAD { Method::HEAD } else { Method::GET };
            assert_eq!((hop.url.as_str(), hop.method, hop.with_body), ("http://a/c", expected, false));
            for status in [200, 201, 300, 304, 305, 404] {
                assert_eq!(next(&method, "http://a/b", status, "c"), Ok(None));
            }
        }
    }

    #[test]
    fn redirects_lead_to_no_unprotected_or_odd_address() {
        assert!(next(&Method::GET, "http://a/", 307, "https://b/").unwrap().is_some());
        for to in ["http://a/", "http://b/", "ftp://a/", "file:///etc/passwd", "data:,x", "http://"] {
            assert!(next(&Method::PUT, "https://a/", 307, to).is_err(), "{to}");
        }
        assert!(
            Hop::first(&Method::GET, &"http://a/".parse().unwrap())
                .next(StatusCode::FOUND, &HeaderMap::new())
                .is_err()
        );
    }

    #[test]
    fn credentials_in_an_address_are_neither_sent_nor_shown() {
        let hop = next(&Method::GET, "http://a/", 302, "http://user:hunter2@b/c").unwrap().unwrap();
        assert_eq!(hop.url.as_str(), "http://b/c");
        assert_eq!(address(&"http://user:hunter2@b:1/c?token=x".parse().unwrap()), "http://b:1/c");
        assert_eq!(address(&"http://b/c".parse().unwrap()), "http://b/c");
    }
}
