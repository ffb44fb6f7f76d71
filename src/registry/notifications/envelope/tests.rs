//! Envelopes, compared with what distribution 2.8.2 and 3.1.2 have sent to a receiver, byte by byte.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinistry_oci::Digest;

use super::*;
use crate::notifications::event::{Action, Target, event_id};
use crate::notifications::references::references;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Manifest with what an envelope has to escape.
const MANIFEST: &str = r#"{"config": {"mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:c5b1d63604f273462ef36fadac3182d43ae6a6138731cf594b314835cf1c034f", "size": 78,
    "data": "e30=", "artifactType": "a/b"},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 11, "urls": ["https://h/?a&b"],
    "digest": "sha256:3997bfa39738f279d788e49d0cc743d02a512c8855f798b3ee1c0daf589a6b9a",
    "annotations": {"b": "2", "a": "<x>&\u2028\u0007\u007f\u00e4\"\\"}}]}"#;

fn source() -> EventSource {
    EventSource { address: "vm:5000".into(), instance_id: "01a2296a-dc66-793f-9384-fae74bbbdaff".into() }
}

fn request() -> RequestRecord {
    RequestRecord {
        id: "01a2296a-e2aa-755f-b1c3-2660f58479e0".into(),
        address: "127.0.0.1:60174".into(),
        host: "127.0.0.1:5000".into(),
        method: "PUT".into(),
        user_agent: "Python-urllib/3.11".into(),
    }
}

fn event(action: Action, target: Target) -> Event {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_796_000_000, 124_291_740);
    let id = event_id(time, 0x3001, [2, 3, 4, 5, 6, 7]);
    Event { id, time, action, target, request: Some(Arc::new(request())), actor: None }
}

fn pushed() -> Target {
    let digest = Digest::sha256(b"manifest");
    Target {
        media_type: MANIFEST_TYPE.into(),
        size: 513,
        url: Some(format!("http://127.0.0.1:5000/v2/a/b/manifests/{digest}")),
        tag: Some("v1".parse().unwrap()),
        references: references(MANIFEST.as_bytes()).into(),
        ..Target::deleted("a/b".parse().unwrap(), Some(digest), None)
    }
}

fn text(event: &Event, version: EnvelopeVersion) -> String {
    String::from_utf8(envelope(event, &source(), version)).unwrap()
}

/// Lines of a target, whose indent is that of an envelope.
fn target(text: &str) -> String {
    let (_, rest) = text.split_once("         \"target\": ").unwrap();
    rest.split_once(",\n         \"request\"").unwrap().0.to_owned()
}

#[test]
fn the_envelope_is_that_of_distribution_3() {
    let expected = r#"{
   "events": [
      {
         "id": "01a229f1-287c-74aa-b001-020304050607",
         "timestamp": "2026-11-30T00:53:20.12429174Z",
         "action": "push",
         "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "DIGEST",
            "size": 513,
            "length": 513,
            "repository": "a/b",
            "url": "http://127.0.0.1:5000/v2/a/b/manifests/DIGEST",
            "tag": "v1",
            "references": [
               {
                  "mediaType": "application/vnd.oci.image.config.v1+json",
                  "digest": "sha256:c5b1d63604f273462ef36fadac3182d43ae6a6138731cf594b314835cf1c034f",
                  "size": 78,
                  "data": "e30=",
                  "artifactType": "a/b"
               },
               {
                  "mediaType": "application/vnd.oci.image.layer.v1.tar",
                  "digest": "sha256:3997bfa39738f279d788e49d0cc743d02a512c8855f798b3ee1c0daf589a6b9a",
                  "size": 11,
                  "urls": [
                     "https://h/?a\u0026b"
                  ],
                  "annotations": {
                     "a": "\u003cx\u003e\u0026\u2028\u0007ä\"\\",
                     "b": "2"
                  }
               }
            ]
         },
         "request": {
            "id": "01a2296a-e2aa-755f-b1c3-2660f58479e0",
            "addr": "127.0.0.1:60174",
            "host": "127.0.0.1:5000",
            "method": "PUT",
            "useragent": "Python-urllib/3.11"
         },
         "actor": {},
         "source": {
            "addr": "vm:5000",
            "instanceID": "01a2296a-dc66-793f-9384-fae74bbbdaff"
         }
      }
   ]
}"#;
    // U+007F stands for itself in both programs, and is not visible here.
    let expected =
        expected.replace("DIGEST", Digest::sha256(b"manifest").as_str()).replace("\\u0007", "\\u0007\u{7f}");
    assert_eq!(text(&event(Action::Push, pushed()), EnvelopeVersion::V2), expected);
}

#[test]
fn the_envelope_of_distribution_2_8_has_another_order_and_fewer_members() {
    let text = text(&event(Action::Push, pushed()), EnvelopeVersion::V1);
    let expected = r#"{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 513,
            "digest": "DIGEST",
            "length": 513,
            "repository": "a/b",
            "url": "http://127.0.0.1:5000/v2/a/b/manifests/DIGEST",
            "tag": "v1",
            "references": [
               {
                  "mediaType": "application/vnd.oci.image.config.v1+json",
                  "size": 78,
                  "digest": "sha256:c5b1d63604f273462ef36fadac3182d43ae6a6138731cf594b314835cf1c034f"
               },"#;
    let expected = expected.replace("DIGEST", Digest::sha256(b"manifest").as_str());
    assert!(target(&text).starts_with(&expected), "{text}");
    assert_eq!(EnvelopeVersion::V1.media_type(), "application/vnd.docker.distribution.events.v1+json");
}

#[test]
fn deletions_have_empty_members_in_version_2_alone() {
    let digest = Digest::sha256(b"x");
    let of = |digest: Option<&Digest>, tag: Option<&str>, version| {
        let tag = tag.map(|tag| tag.parse().unwrap());
        let deleted = Target::deleted("a/b".parse().unwrap(), digest.cloned(), tag);
        let text = target(&text(&event(Action::Delete, deleted), version));
        text.replace("            ", "").replace("         }", "}")
    };
    let members = "{\n\"mediaType\": \"\",\n\"digest\": ";
    assert_eq!(
        of(Some(&digest), None, EnvelopeVersion::V2),
        format!("{members}\"{digest}\",\n\"size\": 0,\n\"repository\": \"a/b\"\n}}")
    );
    assert_eq!(
        of(None, Some("v2"), EnvelopeVersion::V2),
        format!("{members}\"\",\n\"size\": 0,\n\"repository\": \"a/b\",\n\"tag\": \"v2\"\n}}")
    );
    assert_eq!(
        of(Some(&digest), None, EnvelopeVersion::V1),
        format!("{{\n\"digest\": \"{digest}\",\n\"repository\": \"a/b\"\n}}")
    );
    assert_eq!(of(None, Some("v2"), EnvelopeVersion::V1), "{\n\"repository\": \"a/b\",\n\"tag\": \"v2\"\n}");
}

#[test]
fn an_event_without_a_request_has_the_members_that_distribution_always_writes() {
    let mut event = event(Action::Delete, Target::deleted("a".parse().unwrap(), None, None));
    event.request = None;
    event.actor = Some("quinistry:retention".into());
    let text = text(&event, EnvelopeVersion::V2);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let event = &value["events"][0];
    assert_eq!(event["request"], serde_json::json!({"id": "", "method": "", "useragent": ""}));
    assert_eq!(event["actor"], serde_json::json!({"name": "quinistry:retention"}));
}

#[test]
fn row_152_texts_of_clients_are_harmless_in_html() {
    let mut event = event(Action::Push, pushed());
    let agent = "</script><script>alert(1)\r\n\u{0}\u{1b}[31m\u{2029}";
    event.request = Some(Arc::new(RequestRecord { user_agent: agent.into(), ..request() }));
    let text = text(&event, EnvelopeVersion::V2);
    assert!(!text.contains('<') && !text.contains("script>") && !text.contains('\u{1b}'), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["events"][0]["request"]["useragent"], agent);
}

#[test]
fn platforms_have_the_order_of_distribution() {
    let index = r#"{"manifests": [{"platform": {"variant": "v8", "os.features": ["win32k"], "os.version": "10",
        "os": "linux", "architecture": "arm64"}}]}"#;
    let references = references(index.as_bytes()).into();
    let event = event(Action::Push, Target { references, ..pushed() });
    assert!(!text(&event, EnvelopeVersion::V1).contains("architecture"), "2.8 names no platforms");
    let text = text(&event, EnvelopeVersion::V2);
    let names = ["architecture", "os", "os.version", "os.features", "variant"];
    let places = names.map(|name| text.find(&format!("\"{name}\":")).unwrap());
    assert!(places.is_sorted(), "{text}");
}

/// Media types that receivers take, with the members that they demand. Read in the sources of GitLab
/// (`lib/api/container_registry_event.rb`, version 1) and of gchq/Bailo (`handleRegistryEvents`, version 2,
/// whose schema has these types).
#[test]
fn public_receivers_find_what_they_demand() {
    let deleted = Target::deleted("a/b".parse().unwrap(), None, Some("v1".parse().unwrap()));
    for (event, version) in [
        (event(Action::Push, pushed()), EnvelopeVersion::V1),
        (event(Action::Push, pushed()), EnvelopeVersion::V2),
        (event(Action::Delete, deleted), EnvelopeVersion::V2),
    ] {
        let value: serde_json::Value = serde_json::from_str(&text(&event, version)).unwrap();
        let found = &value["events"].as_array().unwrap()[0];
        for path in ["/id", "/timestamp", "/action", "/target/repository", "/target/tag", "/source/addr"] {
            assert!(found.pointer(path).is_some_and(serde_json::Value::is_string), "{path}: {found}");
        }
        assert!(found["timestamp"].as_str().unwrap().ends_with('Z'), "{found}");
        for name in ["mediaType", "digest", "url"] {
            assert!(found["target"].get(name).is_none_or(serde_json::Value::is_string), "{name}: {found}");
        }
        for name in ["size", "length"] {
            assert!(found["target"].get(name).is_none_or(serde_json::Value::is_u64), "{name}: {found}");
        }
        assert!(found["actor"].is_object() && found["request"].is_object(), "{found}");
    }
}
