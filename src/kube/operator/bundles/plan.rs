//! Plan: turns the bundles of a namespace and the former `ConfigMaps` of names into the wanted ones, and
//! judges each bundle. Pure: the status of a bundle is no input.

mod fit;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fit::{Former, fit};

use super::documents::{HISTORY_KEY, HistoryDocument, NamedDigest, NamesDocument};
use super::observed::{ObservedBundle, ObservedNames};
use super::parse::{Image, ParsedBundle, ParsedName, parse_name};
use crate::crd::{BundleName, BundleReason, MAX_PREVIOUS_IMAGES, NetworkMode, QuinistrySpec};
use crate::operator::build;
use crate::operator::naming::NAMES_KEY;
use crate::operator::resource::ResourceIdentity;

/// Number of names that a message lists.
const MAX_LISTED_NAMES: usize = 3;

/// Words about a bundle with images that no list has. Stores could not tell them from what nothing needs.
const NOTHING_REMOVED: &str =
    "; until then stores remove no image, so that those of this bundle stay where they were loaded";

/// A `Quinistry` that can serve bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry {
    /// Identity of the resource.
    pub identity: ResourceIdentity,
    /// True if the operator cannot ask the pods: they listen on their nodes' loopback.
    pub is_unreachable: bool,
    /// True if the resource has stores. Without them it serves no bundle.
    pub has_store: bool,
}

/// A condition's reason with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub reason: BundleReason,
    pub message: String,
}

/// Plan for the bundles of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NamespacePlan {
    /// Wanted `ConfigMaps`, of the registries that have or need one.
    pub maps: Vec<WantedNames>,
    /// One judgement for each bundle that is not being deleted.
    pub bundles: Vec<BundlePlan>,
}

/// A wanted `ConfigMap` of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedNames {
    /// Registry whose stores and generations read it.
    pub registry: Registry,
    /// Data by key.
    pub data: BTreeMap<String, String>,
    /// Images that names stand for.
    pub images: Vec<Image>,
    /// True if the `ConfigMap` is missing or differs.
    pub needs_write: bool,
}

/// Judgement about a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BundlePlan {
    /// UID of the bundle.
    pub uid: String,
    /// UID of the registry that serves the bundle, if there is one.
    pub registry: Option<String>,
    /// Number of names in the specification.
    pub total: usize,
    /// Names that count.
    pub names: Vec<ParsedName>,
    /// Reason why names do not count; `None` if all count.
    pub refusal: Option<Verdict>,
    /// Another defect of a bundle whose names count.
    pub complaint: Option<Verdict>,
    /// Former images that stores keep.
    pub previous: Vec<String>,
}

/// A bundle with its parsed specification.
struct Candidate<'a> {
    bundle: &'a ObservedBundle,
    spec: &'a ParsedBundle,
}

/// Plans the bundles of a namespace. `former` has the present `ConfigMaps` by name of the registry.
pub(super) fn plan(
    bundles: &[Arc<ObservedBundle>],
    registries: &[Registry],
    former: &BTreeMap<String, Arc<ObservedNames>>,
) -> NamespacePlan {
    let mut bundles: Vec<&ObservedBundle> =
        bundles.iter().map(AsRef::as_ref).filter(|bundle| !bundle.is_leaving).collect();
    bundles.sort_by(|one, other| (one.created, &one.uid).cmp(&(other.created, &other.uid)));
    let mut plan = NamespacePlan::default();
    let mut by_registry: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    let documents: Vec<Former> =
        registries.iter().map(|registry| documents(former.get(&registry.identity.name))).collect();
    let (mut unserved, mut unlisted) = (Vec::new(), BTreeSet::new());
    for bundle in &bundles {
        match candidate(bundle, registries, &documents) {
            Ok((registry, spec)) => {
                let name = registry.identity.name.as_str();
                by_registry.entry(name).or_default().push(Candidate { bundle, spec });
            }
            Err(verdict) => {
                unserved.push(*bundle);
                plan.bundles.push(BundlePlan::refused(bundle, None, verdict));
            }
        }
    }
    for (registry, documents) in registries.iter().zip(&documents) {
        let candidates = by_registry.remove(registry.identity.name.as_str()).unwrap_or_default();
        let present = former.get(&registry.identity.name);
        // Without bundles there is nothing to say, unless there were some.
        if candidates.is_empty() && present.is_none() {
            continue;
        }
        let fitted = fit(registry, &candidates, documents, &unserved);
        plan.bundles.extend(fitted.bundles);
        unlisted.extend(fitted.unlisted);
        plan.maps.push(wanted(registry, &fitted.names, &fitted.history, fitted.images, present));
    }
    let kept = plan.bundles.iter_mut().filter(|bundle| unlisted.contains(&bundle.uid));
    for refusal in kept.filter_map(|bundle| bundle.refusal.as_mut()) {
        refusal.message.push_str(NOTHING_REMOVED);
    }
    plan
}

/// Returns the documents in a `ConfigMap` of names; empty ones if there is none.
fn documents(present: Option<&Arc<ObservedNames>>) -> Former {
    let text = |key| present.and_then(|present| present.data.get(key)).map(String::as_str);
    let NamesDocument { names, .. } = NamesDocument::read(text(NAMES_KEY));
    Former {
        history: HistoryDocument::read(text(HISTORY_KEY)),
        names: names
            .into_iter()
            .filter_map(|NamedDigest { name, digest }| parse_name(&BundleName { name, digest }).ok())
            .collect(),
    }
}

/// Returns the registry and the specification of a bundle, or why it has none.
fn candidate<'a, 'r>(
    bundle: &'a ObservedBundle,
    registries: &'r [Registry],
    documents: &[Former],
) -> Result<(&'r Registry, &'a ParsedBundle), Verdict> {
    let spec = bundle
        .spec
        .as_ref()
        .map_err(|error| Verdict { reason: BundleReason::InvalidSpec, message: error.clone() })?;
    Ok((registry_of(bundle, spec, registries, documents)?, spec))
}

/// Returns the registry that serves a bundle: the named one, or the only one with stores. Of several with
/// stores, one goes on serving the bundles of its history, so that another `Quinistry` takes no names away.
fn registry_of<'r>(
    bundle: &ObservedBundle,
    spec: &ParsedBundle,
    registries: &'r [Registry],
    documents: &[Former],
) -> Result<&'r Registry, Verdict> {
    let namespace = &bundle.namespace;
    let refuse = |reason, message| Err(Verdict { reason, message });
    if let Some(name) = &spec.registry {
        return match registries.iter().find(|registry| registry.identity.name == *name) {
            Some(registry) if registry.has_store => Ok(registry),
            Some(_) => refuse(
                BundleReason::RegistryWithoutStore,
                format!(
                    "Quinistry {namespace}/{name} has no stores to serve the bundle from; add spec.store to it, or name \
                     another one in spec.registry"
                ),
            ),
            None => refuse(
                BundleReason::RegistryNotFound,
                format!(
                    "no Quinistry {namespace}/{name} to serve the bundle; create it, or name another one in spec.registry"
                ),
            ),
        };
    }
    let with_store: Vec<&Registry> = registries.iter().filter(|registry| registry.has_store).collect();
    let names = |registries: &[&Registry]| {
        list(&registries.iter().map(|registry| registry.identity.name.as_str()).collect::<Vec<_>>())
    };
    match with_store[..] {
        [only] => Ok(only),
        [] if registries.is_empty() => refuse(
            BundleReason::RegistryNotFound,
            format!(
                "no Quinistry in namespace {namespace} to serve the bundle; create one, or create the bundle where one is"
            ),
        ),
        [] => refuse(
            BundleReason::RegistryWithoutStore,
            format!(
                "no Quinistry in namespace {namespace} has stores to serve the bundle from; add spec.store to one ({})",
                names(&registries.iter().collect::<Vec<_>>())
            ),
        ),
        _ => {
            let holds = |documents: &Former| documents.history.0.contains_key(&bundle.uid);
            let mut all = registries.iter().zip(documents);
            let holder = all.find(|(registry, documents)| registry.has_store && holds(documents));
            holder.map(|(registry, _)| registry).ok_or_else(|| Verdict {
                reason: BundleReason::RegistryAmbiguous,
                message: format!(
                    "namespace {namespace} has several Quinistry resources with stores ({}); name one in spec.registry",
                    names(&with_store)
                ),
            })
        }
    }
}

/// Returns the `ConfigMap` with these documents; an equal one is not written again.
fn wanted(
    registry: &Registry,
    names: &NamesDocument,
    history: &HistoryDocument,
    images: Vec<Image>,
    present: Option<&Arc<ObservedNames>>,
) -> WantedNames {
    let data: BTreeMap<String, String> = [(NAMES_KEY, names.to_json()), (HISTORY_KEY, history.to_json())]
        .map(|(key, text)| (key.to_owned(), text))
        .into();
    let identity = &registry.identity;
    let is_as_wanted = present.is_some_and(|present| {
        data.iter().all(|(key, text)| present.data.get(key) == Some(text))
            && present.resource.as_deref() == Some(identity.name.as_str())
            && present.controller.as_ref().is_some_and(|(uid, _)| *uid == identity.uid)
            && present.applied.as_deref() == Some(build::hash(&data).as_str())
    });
    WantedNames { registry: registry.clone(), data, images, needs_write: !is_as_wanted }
}

/// Lists the first of these names, and the number of the others.
pub(super) fn list(names: &[&str]) -> String {
    let more = names.len().saturating_sub(MAX_LISTED_NAMES);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", names[..names.len().min(MAX_LISTED_NAMES)].join(", "))
}

// === impl Registry ===

impl Registry {
    /// Creates the description of a resource. One whose specification cannot be read keeps what it had: its
    /// stores run on, and with names they had bundles.
    pub(super) fn new(identity: &ResourceIdentity, spec: Option<&QuinistrySpec>, has_names: bool) -> Self {
        Self {
            identity: identity.clone(),
            is_unreachable: spec.is_some_and(|spec| spec.network.mode == NetworkMode::HostNetwork),
            has_store: spec.map_or(has_names, |spec| spec.store.is_some()),
        }
    }
}

// === impl BundlePlan ===

impl BundlePlan {
    /// Plans a bundle of which no name counts.
    fn refused(bundle: &ObservedBundle, registry: Option<String>, verdict: Verdict) -> Self {
        Self {
            uid: bundle.uid.clone(),
            registry,
            total: bundle.spec.as_ref().map_or(0, |spec| spec.names.len()),
            names: Vec::new(),
            refusal: Some(verdict),
            complaint: None,
            previous: Vec::new(),
        }
    }
}

/// Formats the images of a former list for a status.
fn previous(former: &[Vec<Image>]) -> Vec<String> {
    let last = former.first().into_iter().flatten();
    last.take(MAX_PREVIOUS_IMAGES).map(ToString::to_string).collect()
}
