//! Checks of existing objects: those that another program owns, and those of a newer version. Pure.

use serde_json::Value;

use super::observe::ObservedCluster;
use super::{InstallRequest, PreflightFinding};
use crate::api::names::annotations::VERSION;
use crate::install::{ownership, version};

/// Number of foreign objects that a text names.
const MAX_NAMED_OBJECTS: usize = 3;

pub(super) fn ownership(observed: &ObservedCluster) -> Vec<PreflightFinding> {
    let mut all = Vec::new();
    if !observed.foreign.is_empty() {
        let more = observed.foreign.len().saturating_sub(MAX_NAMED_OBJECTS);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let named = &observed.foreign[..observed.foreign.len().min(MAX_NAMED_OBJECTS)];
        let text = format!(
            "`up` would overwrite objects that it did not make: {}{more}; name another --namespace, or delete them",
            named.join(", ")
        );
        all.push(PreflightFinding {
            details: observed.foreign.clone(),
            ..PreflightFinding::fail("objects", text)
        });
    }
    all
}

/// Finds a definition, an operator or generations that are newer than those to apply.
pub(super) fn versions(
    observed: &ObservedCluster,
    request: &InstallRequest<'_>,
    allows_downgrade: bool,
) -> Vec<PreflightFinding> {
    let shipped = request.payload.version.as_deref();
    let mut newer = Vec::new();
    let mut definitions = observed.definitions.iter();
    if let Some(definition) = definitions.find(|definition| version::is_newer_definition(definition)) {
        let mark = version::mark(definition).map_or_else(String::new, |mark| format!(" {mark}"));
        newer.push(format!("the definition{mark}"));
    }
    if version::is_newer(observed.operator_version.as_deref(), shipped) {
        newer.push(format!("the operator {}", observed.operator_version.as_deref().unwrap_or_default()));
    }
    let resource = super::current_resource(observed, request.namespace);
    let mark = resource.and_then(|resource| resource.metadata.annotations.as_ref()?.get(VERSION));
    if version::is_newer(mark.map(String::as_str), shipped) {
        newer.push(format!("the generations {}", mark.map(String::as_str).unwrap_or_default()));
    }
    let own = shipped.unwrap_or(version::OWN_VERSION);
    let mut all = Vec::new();
    if !newer.is_empty() {
        let what = newer.join(", ");
        all.push(if allows_downgrade {
            PreflightFinding::note("version", format!("{what} are newer than {own}; the definition stays, the rest is lowered"))
        } else {
            let text = format!(
                "{what} are newer than this {own}; use the newer quinistry, or `up --downgrade`, which lowers all but \
                 the definition"
            );
            PreflightFinding::fail("version", text)
        });
    }
    let lacks = |definition: &&Value| {
        !version::covers(definition, &version::own_definition(definition))
            && !version::is_newer_definition(definition)
    };
    if let Some(definition) = observed.definitions.iter().find(lacks)
        && let Some(release) = ownership::release(definition)
    {
        let text = format!(
            "the definition of Helm release {release} lacks what {own} needs; upgrade that release first"
        );
        all.push(PreflightFinding::fail("version", text));
    }
    all
}
