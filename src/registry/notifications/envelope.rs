//! Envelope of an event, byte by byte as distribution 2.8 and 3.x send it. Pure.
//!
//! Source: `notifications/event.go` and `notifications/http.go` of distribution 2.8.3 and 3.1.2. Both write
//! JSON with Go's `json.MarshalIndent` and an indent of three spaces, which [`GoFormatter`] imitates.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};

use super::event::{Event, RequestRecord, Target};
use super::references::{ReferenceDescriptor, ReferencePlatform};

/// Version of the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnvelopeVersion {
    /// That of distribution 2.8, which leaves out empty fields.
    V1,
    /// That of distribution 3.x.
    #[default]
    V2,
}

/// Registry that sends events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventSource {
    /// Host name and port.
    pub address: String,
    /// Identifier of this run of the program.
    pub instance_id: String,
}

/// Returns the envelope of one event, as the body of a request.
pub(super) fn envelope(event: &Event, source: &EventSource, version: EnvelopeVersion) -> Vec<u8> {
    let record = EnvelopeRecord { events: [EventRecord::new(event, source, version)] };
    let mut body = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, GoFormatter::new());
    record
        .serialize(&mut serializer)
        .expect("texts, numbers and maps with texts as keys serialise to memory");
    body
}

#[derive(Serialize)]
struct EnvelopeRecord<'a> {
    events: [EventRecord<'a>; 1],
}

#[derive(Serialize)]
struct EventRecord<'a> {
    id: String,
    timestamp: String,
    action: &'static str,
    target: TargetRecord<'a>,
    request: RequestFields<'a>,
    actor: ActorRecord<'a>,
    source: SourceRecord<'a>,
}

/// Target, whose first members are those of a descriptor.
struct TargetRecord<'a> {
    target: &'a Target,
    version: EnvelopeVersion,
}

/// Part of a manifest.
struct ReferenceRecord<'a> {
    reference: &'a ReferenceDescriptor,
    version: EnvelopeVersion,
}

#[derive(Serialize)]
struct RequestFields<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    addr: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    method: &'a str,
    useragent: &'a str,
}

#[derive(Serialize)]
struct ActorRecord<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct SourceRecord<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    addr: &'a str,
    #[serde(rename = "instanceID", skip_serializing_if = "str::is_empty")]
    instance_id: &'a str,
}

/// Members of a descriptor, in the order of version 2.
#[derive(Default)]
struct DescriptorMembers<'a> {
    media_type: &'a str,
    digest: &'a str,
    size: u64,
    urls: &'a [String],
    annotations: Option<&'a BTreeMap<String, String>>,
    data: Option<&'a str>,
    platform: Option<&'a ReferencePlatform>,
    artifact_type: Option<&'a str>,
}

// === impl EnvelopeVersion ===

impl EnvelopeVersion {
    /// Returns the media type of the envelope.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::V1 => "application/vnd.docker.distribution.events.v1+json",
            Self::V2 => "application/vnd.docker.distribution.events.v2+json",
        }
    }
}

// === impl EventRecord ===

impl<'a> EventRecord<'a> {
    fn new(event: &'a Event, source: &'a EventSource, version: EnvelopeVersion) -> Self {
        let request = event.request.as_deref();
        let text = |field: fn(&RequestRecord) -> &str| request.map_or("", field);
        Self {
            id: event.id.to_string(),
            timestamp: Timestamp::try_from(event.time).unwrap_or_default().to_string(),
            action: event.action.as_str(),
            target: TargetRecord { target: &event.target, version },
            request: RequestFields {
                id: text(|request| &request.id),
                addr: text(|request| &request.address),
                host: text(|request| &request.host),
                method: text(|request| &request.method),
                useragent: text(|request| &request.user_agent),
            },
            actor: ActorRecord { name: event.actor.as_deref().filter(|name| !name.is_empty()) },
            source: SourceRecord { addr: &source.address, instance_id: &source.instance_id },
        }
    }
}

// === impl TargetRecord ===

impl Serialize for TargetRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { target, version } = *self;
        let mut map = serializer.serialize_map(None)?;
        let digest = target.digest.as_ref().map_or("", |digest| digest.as_str());
        let descriptor = DescriptorMembers {
            media_type: &target.media_type,
            digest,
            size: target.size,
            ..DescriptorMembers::default()
        };
        descriptor.write(&mut map, version)?;
        if target.size > 0 {
            map.serialize_entry("length", &target.size)?;
        }
        map.serialize_entry("repository", target.repository.as_str())?;
        if let Some(from) = &target.from_repository {
            map.serialize_entry("fromRepository", from.as_str())?;
        }
        if let Some(url) = &target.url {
            map.serialize_entry("url", url)?;
        }
        if let Some(tag) = &target.tag {
            map.serialize_entry("tag", tag.as_str())?;
        }
        if !target.references.is_empty() {
            let references = target.references.iter().map(|reference| ReferenceRecord { reference, version });
            map.serialize_entry("references", &references.collect::<Vec<_>>())?;
        }
        map.end()
    }
}

// === impl ReferenceRecord ===

impl Serialize for ReferenceRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let of = self.reference;
        let descriptor = DescriptorMembers {
            media_type: &of.media_type,
            digest: &of.digest,
            size: of.size,
            urls: of.urls.as_deref().unwrap_or_default(),
            annotations: of.annotations.as_ref().filter(|annotations| !annotations.is_empty()),
            data: of.data.as_deref().filter(|data| !data.is_empty()),
            platform: of.platform.as_ref(),
            artifact_type: of.artifact_type.as_deref().filter(|own| !own.is_empty()),
        };
        descriptor.write(&mut map, self.version)?;
        map.end()
    }
}

// === impl DescriptorMembers ===

impl DescriptorMembers<'_> {
    /// Writes the members that the version has, in its order.
    fn write<M: SerializeMap>(&self, map: &mut M, version: EnvelopeVersion) -> Result<(), M::Error> {
        match version {
            EnvelopeVersion::V1 => {
                if !self.media_type.is_empty() {
                    map.serialize_entry("mediaType", self.media_type)?;
                }
                if self.size > 0 {
                    map.serialize_entry("size", &self.size)?;
                }
                if !self.digest.is_empty() {
                    map.serialize_entry("digest", self.digest)?;
                }
            }
            EnvelopeVersion::V2 => {
                map.serialize_entry("mediaType", self.media_type)?;
                map.serialize_entry("digest", self.digest)?;
                map.serialize_entry("size", &self.size)?;
            }
        }
        if !self.urls.is_empty() {
            map.serialize_entry("urls", self.urls)?;
        }
        if let Some(annotations) = self.annotations {
            map.serialize_entry("annotations", annotations)?;
        }
        let is_second = version == EnvelopeVersion::V2;
        if let Some(data) = self.data.filter(|_| is_second) {
            map.serialize_entry("data", data)?;
        }
        // Version 2.8 reads the entries of an index without their platforms.
        if let Some(platform) = self.platform.filter(|_| is_second) {
            map.serialize_entry("platform", platform)?;
        }
        if let Some(artifact_type) = self.artifact_type.filter(|_| is_second) {
            map.serialize_entry("artifactType", artifact_type)?;
        }
        Ok(())
    }
}

/// Formatter that indents and escapes as Go's `json.MarshalIndent(…, "", "   ")`: beside what JSON demands,
/// it escapes `<`, `>`, `&` and the separators U+2028 and U+2029, so that the text is harmless in HTML and
/// JavaScript.
struct GoFormatter(PrettyFormatter<'static>);

impl GoFormatter {
    fn new() -> Self {
        Self(PrettyFormatter::with_indent(b"   "))
    }
}

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut start = 0;
        let is_escaped = |c: &char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        for (at, c) in fragment.char_indices().filter(|(_, c)| is_escaped(c)) {
            writer.write_all(&fragment.as_bytes()[start..at])?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            start = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[start..])
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests;
