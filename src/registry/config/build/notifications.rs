//! Events for other programs from a checked tree.

use std::num::{NonZeroU32, NonZeroUsize};

use super::super::model::{
    Action, EndpointSettings, EndpointUrl, EnvelopeVersion, NotificationsConfig, SigningSecret,
};
use super::super::values;
use super::Section;

/// Path of the endpoints, in the table of keys.
const ENDPOINT: &str = "notifications.endpoints[].";

pub(super) fn notifications(root: Section<'_>) -> NotificationsConfig {
    let endpoints = root.elements("notifications.endpoints", ENDPOINT);
    NotificationsConfig {
        includes_references: root.boolean("notifications.events.includereferences"),
        endpoints: endpoints.filter(|section| !section.boolean("disabled")).filter_map(endpoint).collect(),
    }
}

fn endpoint(section: Section<'_>) -> Option<EndpointSettings> {
    let url = EndpointUrl::new(&section.url("url")?)?;
    let mut ignored_media_types = texts(section, "ignoredmediatypes");
    ignored_media_types.extend(texts(section, "ignore.mediatypes"));
    let is_ignored = |ignored: &[String], action: Action| {
        ignored.iter().any(|text| text.eq_ignore_ascii_case(action.as_str()))
    };
    let actions = texts(section, "ignore.actions");
    let give_up = section.duration("quinistry.giveup");
    let mut headers = section.headers("headers");
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Some(EndpointSettings {
        headers,
        timeout: section.positive_duration("timeout"),
        threshold: u32::try_from(section.integer("threshold"))
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(EndpointSettings::DEFAULT_THRESHOLD),
        backoff: section.positive_duration("backoff"),
        ignored_media_types,
        ignored_actions: Action::ALL.into_iter().filter(|action| is_ignored(&actions, *action)).collect(),
        ignored_actors: texts(section, "quinistry.ignoreactors"),
        repositories: texts(section, "quinistry.repositories"),
        version: match section.word("quinistry.mediatype") {
            Some("v1") => EnvelopeVersion::V1,
            _ => EnvelopeVersion::V2,
        },
        secrets: ["quinistry.secret", "quinistry.formersecret"]
            .into_iter()
            .filter_map(|key| section.value(key)?.as_text()?.parse::<SigningSecret>().ok())
            .collect(),
        ca: section.value("quinistry.ca").map(|_| section.text("quinistry.ca").into()),
        queue: usize::try_from(section.integer("quinistry.queue"))
            .ok()
            .and_then(NonZeroUsize::new)
            .unwrap_or(EndpointSettings::DEFAULT_QUEUE),
        give_up: (!give_up.is_zero()).then_some(give_up),
        ..EndpointSettings::new(section.text("name"), url)
    })
}

fn texts(section: Section<'_>, key: &str) -> Vec<String> {
    let texts = section.value(key).and_then(|node| values::texts(node).ok()).unwrap_or_default();
    texts.into_iter().map(str::to_owned).collect()
}
