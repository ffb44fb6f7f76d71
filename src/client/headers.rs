//! Parsing of the header fields of the distribution-spec: `Link`, `Content-Range`, `Retry-After`.
//!
//! Pure; the time is a parameter.

use std::time::{Duration, SystemTime};

/// Returns the target of the first `Link` with the relation `next`. RFC 8288.
#[must_use]
pub fn next_link(field: &str) -> Option<&str> {
    let mut rest = field;
    loop {
        let (target, after) = rest.split_once('<')?.1.split_once('>')?;
        rest = after;
        loop {
            let (parameter, after) = until_unquoted(rest, [';', ',']);
            rest = after;
            if is_next(parameter) {
                return Some(target);
            }
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => break,
            }
        }
    }
}

fn is_next(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        let mut relations = value.trim().trim_matches('"').split(' ');
        name.trim().eq_ignore_ascii_case("rel")
            && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

/// Splits a text at the first of these characters outside of quotes.
fn until_unquoted(text: &str, ends: [char; 2]) -> (&str, &str) {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        !quoted && ends.contains(&c)
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// Parses `bytes first-last/total` of a 206; the total may be unknown.
#[must_use]
pub fn content_range(field: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = field.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if first > last || total.is_some_and(|total| last >= total) { None } else { Some((first, last, total)) }
}

/// Parses the `Range` of an upload session, `0-LAST`, and returns the number of bytes: one more than the last.
#[must_use]
pub fn received_range(field: &str) -> Option<u64> {
    let range = field.trim();
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// Parses `Retry-After`, in seconds or as a date.
#[must_use]
pub fn retry_after(field: &str, now: SystemTime) -> Option<Duration> {
    let field = field.trim();
    if let Ok(seconds) = field.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(field).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Returns a media type without parameters, in lower case.
#[must_use]
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_is_found_among_others() {
        assert_eq!(next_link("</v2/_catalog?last=x&n=5>; rel=\"next\""), Some("/v2/_catalog?last=x&n=5"));
        assert_eq!(next_link("<a>; rel=prev; title=\"x, <b>; rel=next\", <c>; REL=\"last next\""), Some("c"));
        for field in ["", "<a>", "<a", "a; rel=next", "<a>; rel=nextish"] {
            assert_eq!(next_link(field), None, "{field}");
        }
    }

    #[test]
    fn ranges_must_make_sense() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for field in
            ["", "5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes */10", "bytes 5-/10", "bytes -1-5/10"]
        {
            assert_eq!(content_range(field), None, "{field}");
        }
    }

    #[test]
    fn the_bytes_of_a_session_are_counted() {
        assert_eq!(received_range("0-9"), Some(10));
        assert_eq!(received_range("bytes=0-9"), Some(10));
        for field in ["", "9", "1-9", "0-", "0--1", "0-18446744073709551615"] {
            assert_eq!(received_range(field), None, "{field}");
        }
    }

    #[test]
    fn waiting_is_asked_for_in_seconds_or_until_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_media_type_loses_its_parameters() {
        assert_eq!(essence("Application/JSON; charset=utf-8"), "application/json");
    }
}
