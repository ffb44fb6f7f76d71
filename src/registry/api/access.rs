//! Access: the action that a request asks for, and the decision whether it is permitted. Pure.
//!
//! The decision for each endpoint and method is made here; a method that no endpoint of the registry has was
//! refused before ([`Method::from_http`]). The registry has no users: what its options permit, everybody may
//! do. A mount also reads the repository that it names, which is not decided here.

use super::method::{self, Method};
use super::response::error::Error;
use super::route::Route;
use crate::RegistryOptions;

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
    /// Returns the action of an endpoint's method, if the endpoint has that method.
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
pub(crate) enum Target<'a> {
    /// The built-in repository.
    Builtin,
    /// Any other, in a registry without storage.
    NoStorage,
    /// Any other, in a registry with storage.
    Stored(&'a RegistryOptions),
}

/// Fails unless everybody may do what the request asks for.
pub(crate) fn authorize(route: &Route, method: Method, target: Target<'_>) -> Result<AccessAction, Error> {
    match (AccessAction::of(route, method), target) {
        (_, Target::Builtin) if method != Method::Read => Err(method::BUILTIN_IS_READ_ONLY),
        (Some(AccessAction::Delete), Target::Stored(options)) if !options.delete => {
            Err(method::method_not_allowed(route, options))
        }
        // Where nothing can be written, no upload session exists. Writes are refused before the name of the
        // repository is checked, so only reads come here.
        (Some(AccessAction::Push) | None, Target::Builtin | Target::NoStorage) => Err(Error::UploadUnknown),
        (Some(AccessAction::Push), Target::Stored(options)) if options.read_only => Err(Error::UploadUnknown),
        (None, Target::Stored(options)) => Err(method::method_not_allowed(route, options)),
        (Some(action), _) => Ok(action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [Method; 5] = [Method::Read, Method::Post, Method::Patch, Method::Put, Method::Delete];

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

    /// Letters of the actions that are permitted, in the order of [`METHODS`].
    fn permitted(path: &str, target: Target<'_>) -> String {
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
        METHODS.map(letter).iter().collect()
    }

    #[test]
    fn each_endpoint_and_method_has_its_action() {
        let table = |target| PATHS.map(|path| permitted(path, target));
        let all = RegistryOptions::default();
        assert!(all.delete && !all.read_only, "the defaults permit everything");
        let expected = ["i----", "l----", "r----", "r--wd", "r---d", "-w---", "w-www", "r----"];
        assert_eq!(table(Target::Stored(&all)), expected);
        let kept = ["i----", "l----", "r----", "r--w-", "r----", "-w---", "w-www", "r----"];
        assert_eq!(table(Target::Stored(&RegistryOptions { delete: false, ..all })), kept);
        let read_only = RegistryOptions { read_only: true, ..all };
        assert_eq!(permitted("/v2/a/blobs/uploads/1", Target::Stored(&read_only)), "?-???");
        let reads = ["i", "l", "r", "r", "r", "?", "?", "r"];
        let of_reads = |target| PATHS.map(|path| permitted(path, target)[..1].to_owned());
        assert_eq!(of_reads(Target::Builtin), reads);
        assert_eq!(of_reads(Target::NoStorage), reads);
        assert!(PATHS.iter().all(|path| permitted(path, Target::Builtin).ends_with("----")));
    }
}
