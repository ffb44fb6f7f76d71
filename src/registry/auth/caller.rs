//! Client that sends a request, together with the rules that decide about it.

use std::sync::Arc;

use quinistry_oci::RepositoryName;

use super::access_control::AccessControl;
use super::identity::Identity;
use super::right::Right;
use super::rules::Decision;
use crate::PathPrefix;

/// Client that sends a request. Clones are cheap, so that work on other threads can ask the rules, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller(Option<Arc<KnownCaller>>);

#[derive(Debug)]
pub(crate) struct KnownCaller {
    pub(crate) control: Arc<AccessControl>,
    pub(crate) identity: Identity,
    /// Prefix of the registry's paths.
    pub(crate) prefix: PathPrefix,
}

// === impl Caller ===

impl Caller {
    /// Client of a registry without users, which may do what the settings permit.
    pub(crate) const ANYONE: Self = Self(None);

    pub(crate) fn new(known: KnownCaller) -> Self {
        Self(Some(Arc::new(known)))
    }

    /// Returns identity and rules, if the registry has users.
    pub(crate) fn known(&self) -> Option<&KnownCaller> {
        self.0.as_deref()
    }

    /// Returns the identity, if the registry has users.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.known().map(|known| &known.identity)
    }

    /// Decides about a right in a repository of the store.
    pub(crate) fn decide(&self, repository: &RepositoryName, right: Right) -> Decision<'_> {
        match &self.0 {
            None => Decision::Granted(None),
            Some(known) => known.control.rules.decide(&known.identity, right, repository),
        }
    }

    /// Returns true if the client has a right in a repository of the store.
    pub(crate) fn has(&self, repository: &RepositoryName, right: Right) -> bool {
        self.decide(repository, right).is_granted()
    }

    /// Returns true if the list of all repositories shows this one to the client, which may read that list.
    pub(crate) fn lists(&self, repository: &RepositoryName) -> bool {
        match &self.0 {
            None => true,
            Some(known) => known.control.rules.lists(&known.identity, repository),
        }
    }

    /// Returns true if the client may read the built-in repository, which has this name.
    pub(crate) fn may_read_builtin(&self, name: &RepositoryName) -> bool {
        self.0.as_ref().is_none_or(|known| known.control.builtin_is_public) || self.has(name, Right::Pull)
    }
}
