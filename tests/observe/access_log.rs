//! Access log: every line of a session by the grammar of its format.

use quinistry::http::access_log::AccessLogFormat;

use crate::registry::{Observed, session};

/// Fields of a line of Apache's Combined format; `None` if the line is not one.
fn fields(line: &str) -> Option<[&str; 9]> {
    let (client, rest) = line.split_once(' ')?;
    let (identity, rest) = rest.split_once(' ')?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let (status, rest) = rest.split_once(' ')?;
    let (bytes, rest) = rest.split_once(" \"")?;
    let (referer, rest) = rest.split_once("\" \"")?;
    Some([client, identity, user, time, request, status, bytes, referer, rest.strip_suffix('"')?])
}

#[test]
fn every_request_has_a_line_of_the_combined_format() {
    let registry = Observed::start(AccessLogFormat::Combined);
    let count = session(registry.peer());
    let lines = registry.lines();
    assert_eq!(lines.len(), count);
    for line in &lines {
        let [client, identity, user, time, request, status, bytes, _, _] =
            fields(line).unwrap_or_else(|| panic!("{line}"));
        // The server of these tests does not tell the peer.
        assert_eq!((client, identity, user), ("-", "-", "-"), "{line}");
        assert!(time.len() == 26 && time.ends_with(" +0000"), "{line}");
        assert_eq!(request.split(' ').count(), 3, "{line}");
        assert!(status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()), "{line}");
        assert!(bytes == "-" || bytes.parse::<u64>().is_ok(), "{line}");
    }
    assert!(lines.iter().any(|line| line.contains("\"GET /v2/a/b/manifests/x HTTP/1.1\" 200 ")), "{lines:?}");
}

#[test]
fn every_request_has_a_line_of_json() {
    let registry = Observed::start(AccessLogFormat::Json);
    let count = session(registry.peer());
    let lines: Vec<serde_json::Value> =
        registry.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), count);
    for line in &lines {
        assert!(line["duration"].is_f64() && line["status"].is_u64() && line["complete"] == true, "{line}");
        assert_eq!(line["request_id"].as_str().unwrap().len(), 36, "{line}");
    }
    let with_digest = lines
        .iter()
        .filter(|line| line["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
    assert!(with_digest.count() > 3);
    assert!(lines.iter().any(|line| line["repository"] == "a/b"));
}
