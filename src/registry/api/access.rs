//! Access: the action that a request asks for, and the decision whether it is permitted. Pure.
//!
//! Decides what the settings permit to all clients. [`Method::from_http`] has refused methods that no endpoint has, and
//! in a registry with users [`authorization`](super::authorization) has asked the rules. A mount also reads the
//! repository that the request names, which [`permits_mount`] and the rules decide.

use quinistry_oci::RepositoryName;

use super::method::{self, Method};
use super::response::error::Error;
use super::route::Route;
use crate::Settings;
use crate::builtin::Builtin;
use crate::upstreams::Upstreams;

/// Action that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessAction {
    /// Ask whether there is a registry.
    Ping,
    /// List repositories.
    ListRepositories,
    /// Read a repository's tags, manifests, blobs and referrers.
    Pull,
    /// Add content to a repository. Reading the progress of an upload belongs to it.
    Push,
    /// Delete content of a repository.
    Delete,
}

impl AccessAction {
    /// Returns the name in the audit log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::ListRepositories => "catalog",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    /// Returns the action of an endpoint's method, if the endpoint has that method. The `Allow` header of a
    /// refusal follows from this table.
    pub(crate) fn of(route: &Route, method: Method) -> Option<Self> {
        Some(match (route, method) {
            (Route::Base, Method::Read) => Self::Ping,
            (Route::Catalog, Method::Read) => Self::ListRepositories,
            (
                Route::Tags { .. } | Route::Manifest { .. } | Route::Blob { .. } | Route::Referrers { .. },
                Method::Read,
            ) => Self::Pull,
            (Route::Uploads { .. }, Method::Post)
            | (Route::Upload { .. }, Method::Read | Method::Patch | Method::Put | Method::Delete)
            | (Route::Manifest { .. }, Method::Put) => Self::Push,
            (Route::Manifest { .. } | Route::Blob { .. }, Method::Delete) => Self::Delete,
            _ => return None,
        })
    }
}

/// Part of a registry that a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AccessTarget<'a> {
    /// The built-in repository.
    Builtin,
    /// Another repository, in a registry without storage.
    NoStorage,
    /// Another repository, in a registry with storage.
    Stored(&'a Settings),
    /// Repository of an upstream, which clients read and whose stored copies they may delete.
    Upstream(&'a Settings),
}

/// Fails unless the settings permit what the request asks for.
pub(crate) fn authorize(
    route: &Route,
    method: Method,
    target: AccessTarget<'_>,
) -> Result<AccessAction, Error> {
    match (AccessAction::of(route, method), target) {
        (_, AccessTarget::Builtin) if method != Method::Read => Err(method::BUILTIN_IS_READ_ONLY),
        (Some(AccessAction::Push), AccessTarget::Upstream(_)) => Err(match method {
            // No upload session exists.
            Method::Read => Error::UploadUnknown,
            _ => method::upstream_is_read_only(route),
        }),
        (Some(AccessAction::Delete), AccessTarget::Stored(settings) | AccessTarget::Upstream(settings))
            if !settings.delete =>
        {
            Err(method::method_not_allowed(route, settings))
        }
        // Where nothing can be written, no upload session exists. Writes are refused before the name of the
        // repository is checked, so only reads come here.
        (Some(AccessAction::Push) | None, AccessTarget::Builtin | AccessTarget::NoStorage) => {
            Err(Error::UploadUnknown)
        }
        (Some(AccessAction::Push), AccessTarget::Stored(settings)) if settings.read_only => {
            Err(Error::UploadUnknown)
        }
        (None, AccessTarget::Stored(settings) | AccessTarget::Upstream(settings)) => {
            Err(method::method_not_allowed(route, settings))
        }
        (Some(action), _) => Ok(action),
    }
}

/// Returns true if a mount may read its blob from `source`; without a source, from any repository of the store.
///
/// The built-in repository of a registry that has one hides content that was pushed under its name before, from
/// mounts too. Content of names that the patterns of an upstream exclude is not served, however it came here.
pub(crate) fn permits_mount(
    source: Option<&RepositoryName>,
    has_builtin: bool,
    upstreams: Option<&Upstreams>,
) -> bool {
    let is_excluded = |upstreams: &Upstreams| match source {
        Some(source) => upstreams.excludes(source),
        // The search would find the content of excluded names, too.
        None => upstreams.exclude_names(),
    };
    let is_hidden = has_builtin && source.is_some_and(Builtin::is_builtin);
    !is_hidden && !upstreams.is_some_and(is_excluded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 8] = [
        "/v2/",
        "/v2/_catalog",
        "/v2/a/tags/list",
        "/v2/a/manifests/x",
        "/v2/a/blobs/sha256:0",
        "/v2/a/blobs/uploads/",
        "/v2/a/blobs/uploads/1",
        "/v2/a/referrers/sha256:0",
    ];

    /// Letters of the actions that are permitted, in the order of [`Method::ALL`].
    fn permitted(path: &str, target: AccessTarget<'_>) -> String {
        let route = Route::parse(path).unwrap();
        let letter = |method| match authorize(&route, method, target) {
            Ok(AccessAction::Ping) => 'i',
            Ok(AccessAction::ListRepositories) => 'l',
            Ok(AccessAction::Pull) => 'r',
            Ok(AccessAction::Push) => 'w',
            Ok(AccessAction::Delete) => 'd',
            Err(Error::Method { .. }) => '-',
            Err(_) => '?',
        };
        Method::ALL.map(letter).iter().collect()
    }

    #[test]
    fn each_endpoint_and_method_has_its_action() {
        let table = |target| PATHS.map(|path| permitted(path, target));
        let all = Settings::default();
        assert!(all.delete && !all.read_only, "the defaults permit everything");
        let expected = ["i----", "l----", "r----", "r--wd", "r---d", "-w---", "w-www", "r----"];
        assert_eq!(table(AccessTarget::Stored(&all)), expected);
        let kept = ["i----", "l----", "r----", "r--w-", "r----", "-w---", "w-www", "r----"];
        assert_eq!(table(AccessTarget::Stored(&Settings { delete: false, ..all.clone() })), kept);
        let read_only = Settings { read_only: true, ..all };
        assert_eq!(permitted("/v2/a/blobs/uploads/1", AccessTarget::Stored(&read_only)), "?-???");
        let reads = ["i", "l", "r", "r", "r", "?", "?", "r"];
        let of_reads = |target| PATHS.map(|path| permitted(path, target)[..1].to_owned());
        assert_eq!(of_reads(AccessTarget::Builtin), reads);
        assert_eq!(of_reads(AccessTarget::NoStorage), reads);
        assert!(PATHS.iter().all(|path| permitted(path, AccessTarget::Builtin).ends_with("----")));
    }

    #[test]
    fn repositories_of_an_upstream_are_read_and_their_copies_deleted() {
        let (all, kept) = (Settings::default(), Settings { delete: false, ..Settings::default() });
        let of_all = PATHS.map(|path| permitted(path, AccessTarget::Upstream(&all)));
        assert_eq!(of_all, ["i----", "l----", "r----", "r---d", "r---d", "-----", "?----", "r----"]);
        let of_kept = PATHS.map(|path| permitted(path, AccessTarget::Upstream(&kept)));
        assert_eq!(of_kept, ["i----", "l----", "r----", "r----", "r----", "-----", "?----", "r----"]);
    }

    #[test]
    fn a_mount_reads_any_repository_but_the_built_in_one() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        for has_builtin in [true, false] {
            assert!(permits_mount(None, has_builtin, None));
            assert!(permits_mount(Some(&name("a/b")), has_builtin, None));
        }
        assert!(!permits_mount(Some(&name("quinistry")), true, None));
        assert!(permits_mount(Some(&name("quinistry")), false, None));
    }
}
