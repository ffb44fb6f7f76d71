//! Settings of an endpoint. Pure.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::uri::{Authority, Parts};
use http::{HeaderMap, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use quinistry_oci::escape::Escaped;

use super::envelope::EnvelopeVersion;
use super::event::{Action, Event};
use super::signature::SigningSecret;

/// Settings of an endpoint that receives events. `Debug` shows neither the URL, nor headers, nor secrets.
#[derive(Clone, PartialEq)]
pub struct EndpointSettings {
    /// Name in logs and metrics, which no other endpoint has.
    pub name: String,
    /// URL that events are sent to.
    pub url: EndpointUrl,
    /// Further headers of each request.
    pub headers: HeaderMap,
    /// Longest time for one attempt, to the head of the answer.
    pub timeout: Duration,
    /// Failures in a row after which attempts pause.
    pub threshold: NonZeroU32,
    /// First pause, from which the pauses double.
    pub backoff: Duration,
    /// Media types whose events are not sent.
    pub ignored_media_types: Vec<String>,
    /// Actions whose events are not sent.
    pub ignored_actions: Vec<Action>,
    /// Actors whose events are not sent.
    pub ignored_actors: Vec<String>,
    /// Patterns of repositories whose events are sent; empty for all.
    pub repositories: Vec<String>,
    /// Version of the envelope.
    pub version: EnvelopeVersion,
    /// Secrets that sign each request, the current one first.
    pub secrets: Vec<SigningSecret>,
    /// File with authorities that are trusted beside the usual ones.
    pub ca: Option<PathBuf>,
    /// Most events that wait.
    pub queue: NonZeroUsize,
    /// Age after which an event is given up while the receiver takes none; `None` for never.
    pub give_up: Option<Duration>,
}

/// URL of an endpoint, with the scheme `http` or `https`. `Debug` and `Display` show scheme, host and port
/// alone: path and query may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    uri: Uri,
    /// Value of `Authorization` by the user and the password in the URL.
    credentials: Option<HeaderValue>,
}

// === impl EndpointSettings ===

impl EndpointSettings {
    /// Default of [`timeout`](Self::timeout), as in distribution.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
    /// Default of [`threshold`](Self::threshold), as in distribution.
    pub const DEFAULT_THRESHOLD: NonZeroU32 = NonZeroU32::new(10).expect("10 is not 0");
    /// Default of [`backoff`](Self::backoff), as in distribution.
    pub const DEFAULT_BACKOFF: Duration = Duration::from_secs(1);
    /// Default of [`queue`](Self::queue).
    pub const DEFAULT_QUEUE: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not 0");

    /// Makes the settings of an endpoint with the defaults.
    #[must_use]
    pub fn new(name: String, url: EndpointUrl) -> Self {
        Self {
            name,
            url,
            headers: HeaderMap::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            threshold: Self::DEFAULT_THRESHOLD,
            backoff: Self::DEFAULT_BACKOFF,
            ignored_media_types: Vec::new(),
            ignored_actions: Vec::new(),
            ignored_actors: Vec::new(),
            repositories: Vec::new(),
            version: EnvelopeVersion::default(),
            secrets: Vec::new(),
            ca: None,
            queue: Self::DEFAULT_QUEUE,
            give_up: None,
        }
    }

    /// Returns true if events of an action may be sent.
    pub(super) fn wants(&self, action: Action) -> bool {
        !self.ignored_actions.contains(&action)
    }

    /// Returns true if no list excludes the event. The patterns of repositories are looked at elsewhere.
    pub(super) fn accepts(&self, event: &Event) -> bool {
        let is_ignored = |list: &[String], text: &str| list.iter().any(|ignored| ignored == text);
        self.wants(event.action)
            && !is_ignored(&self.ignored_media_types, &event.target.media_type)
            && !event.actor.as_deref().is_some_and(|actor| is_ignored(&self.ignored_actors, actor))
    }

    /// Returns the headers of each request beside those of its body. A configured `Authorization` wins over
    /// the credentials in the URL, as in distribution.
    pub(super) fn request_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(credentials) = &self.url.credentials
            && !headers.contains_key(AUTHORIZATION)
        {
            headers.insert(AUTHORIZATION, credentials.clone());
        }
        headers
    }
}

impl fmt::Debug for EndpointSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSettings")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

// === impl EndpointUrl ===

impl EndpointUrl {
    /// Makes the URL of an endpoint; `None` if the URL has no host, or another scheme than `http` and
    /// `https`.
    #[must_use]
    pub fn new(uri: &Uri) -> Option<Self> {
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return None;
        }
        let authority = uri.authority()?.as_str();
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let host: Authority = host.parse().ok().filter(|host: &Authority| !host.host().is_empty())?;
        let mut parts: Parts = uri.clone().into_parts();
        parts.authority = Some(host);
        Some(Self { uri: Uri::from_parts(parts).ok()?, credentials: credentials.map(basic) })
    }

    /// Returns the URL without user and password.
    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_origin(&self.uri, f)
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_origin(&self.uri, f)
    }
}

/// Writes scheme, host and port of a URL, and `/***` for a path that may be a secret.
pub(super) fn fmt_origin(uri: &Uri, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let authority = uri.authority().map_or("", Authority::as_str);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let rest = if matches!(path, "" | "/") { "" } else { "/***" };
    write!(f, "{}://{}{rest}", uri.scheme_str().unwrap_or("http"), Escaped(host))
}

/// Returns the value of `Authorization` for user and password of a URL, in which they are percent-encoded.
fn basic(credentials: &str) -> HeaderValue {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(value).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use uuid::Uuid;

    use super::*;
    use crate::notifications::event::Target;

    fn settings(url: &str) -> EndpointSettings {
        EndpointSettings::new("a".into(), EndpointUrl::new(&url.parse().unwrap()).unwrap())
    }

    #[test]
    fn row_149_credentials_of_a_url_are_a_header_and_are_never_shown() {
        let settings = settings("https://u%40x:hunter2%3A@h.example:8443/hook/hunter2?token=hunter2");
        let headers = settings.request_headers();
        assert_eq!(headers[AUTHORIZATION], format!("Basic {}", BASE64_STANDARD.encode("u@x:hunter2:")));
        assert_eq!(settings.url.uri(), "https://h.example:8443/hook/hunter2?token=hunter2");
        let shown = format!("{settings:?} {:?} {headers:?}", settings.url);
        assert!(shown.contains("https://h.example:8443/***"), "{shown}");
        assert!(
            !shown.contains("hunter2") && !shown.contains(&BASE64_STANDARD.encode("u@x")[..4]),
            "{shown}"
        );
    }

    #[test]
    fn a_configured_authorization_wins_over_the_url() {
        let mut settings = settings("http://u:p@h");
        assert_eq!(settings.request_headers()[AUTHORIZATION], "Basic dTpw");
        settings.headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(settings.request_headers()[AUTHORIZATION], "Bearer x");
    }

    #[test]
    fn urls_without_a_host_or_of_other_schemes_are_refused() {
        for url in ["ftp://h", "/path", "h:80"] {
            assert!(url.parse::<Uri>().ok().and_then(|uri| EndpointUrl::new(&uri)).is_none(), "{url}");
        }
        assert_eq!(EndpointUrl::new(&"http://h".parse().unwrap()).unwrap().to_string(), "http://h");
    }

    #[test]
    fn an_event_that_any_list_names_is_not_sent() {
        let event = |action, media_type: &'static str, actor: Option<&str>| Event {
            id: Uuid::nil(),
            time: SystemTime::UNIX_EPOCH,
            action,
            target: Target {
                media_type: media_type.into(),
                ..Target::deleted("a".parse().unwrap(), None, None)
            },
            request: None,
            actor: actor.map(Arc::from),
        };
        let mut settings = settings("http://h");
        assert!(settings.accepts(&event(Action::Pull, "t/x", Some("bot"))));
        settings.ignored_media_types = vec!["t/x".into()];
        settings.ignored_actions = vec![Action::Pull];
        settings.ignored_actors = vec!["bot".into()];
        for (action, media_type, actor, is_accepted) in [
            (Action::Push, "t/y", None, true),
            (Action::Push, "t/y", Some("alice"), true),
            (Action::Push, "t/x", None, false),
            (Action::Pull, "t/y", None, false),
            (Action::Push, "t/y", Some("bot"), false),
        ] {
            let event = event(action, media_type, actor);
            assert_eq!(settings.accepts(&event), is_accepted, "{event:?}");
        }
    }
}
