//! Values of the labels of metrics: closed sets, none of which has a name that a client has chosen.

use http::StatusCode;
use quinistry_http::metrics::LabelValue;
use quinistry_store::StorageAction;

use crate::api::route::Route;

/// Endpoint that a request is for, by distribution's names where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointLabel {
    Base,
    Manifest,
    Tags,
    Blob,
    BlobUpload,
    BlobUploadChunk,
    Catalog,
    Referrers,
    /// Path that is no endpoint.
    Other,
}

/// Method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Unknown,
}

/// Status of an answer, as its place in [`CODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

/// Statuses of answers. The last but one stands for an answer that the client did not wait for, the last one
/// for all others.
const CODES: [&str; 25] = [
    "200", "201", "202", "204", "206", "301", "304", "307", "400", "401", "403", "404", "405", "408", "413",
    "414", "416", "429", "500", "502", "503", "504", "507", "499", "other",
];

/// Kind of a storage, by distribution's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Folder.
    Filesystem,
    /// Memory.
    InMemory,
    /// Bucket of S3.
    S3,
    /// Bucket of Google Cloud Storage.
    Gcs,
    /// Container of Azure Blob Storage.
    Azure,
}

/// Call of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ActionLabel(pub(super) StorageAction);

// === impl Endpoint ===

impl EndpointLabel {
    /// Finds the endpoint of a path, valid or not, without parsing names.
    pub(crate) fn of_path(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v2") else { return Self::Other };
        if matches!(rest, "" | "/") {
            return Self::Base;
        }
        if rest.contains('%') {
            return Route::parse(path).map_or(Self::Other, |route| Self::of_route(&route));
        }
        let Some(rest) = rest.strip_prefix('/') else { return Self::Other };
        if rest == "_catalog" {
            return Self::Catalog;
        }
        // From the right, as the route is parsed.
        let mut parts = rest.rsplit('/');
        let [last, before, before_that] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        match (before_that, before, last) {
            (_, "blobs", "uploads") | ("blobs", "uploads", "") => Self::BlobUpload,
            ("blobs", "uploads", _) => Self::BlobUploadChunk,
            (_, "tags", "list") => Self::Tags,
            (_, "blobs", _) => Self::Blob,
            (_, "manifests", _) => Self::Manifest,
            (_, "referrers", _) => Self::Referrers,
            _ => Self::Other,
        }
    }

    const fn of_route(route: &Route) -> Self {
        match route {
            Route::Base => Self::Base,
            Route::Catalog => Self::Catalog,
            Route::Blob { .. } => Self::Blob,
            Route::Manifest { .. } => Self::Manifest,
            Route::Uploads { .. } => Self::BlobUpload,
            Route::Upload { .. } => Self::BlobUploadChunk,
            Route::Tags { .. } => Self::Tags,
            Route::Referrers { .. } => Self::Referrers,
        }
    }

    /// Returns true if the endpoint has the method.
    pub(super) const fn has(self, method: MethodLabel) -> bool {
        use MethodLabel as M;
        match self {
            Self::Base | Self::Tags | Self::Catalog | Self::Referrers => matches!(method, M::Get | M::Head),
            Self::Manifest => matches!(method, M::Get | M::Head | M::Put | M::Delete),
            Self::Blob => matches!(method, M::Get | M::Head | M::Delete),
            Self::BlobUpload => matches!(method, M::Post),
            Self::BlobUploadChunk => !matches!(method, M::Post | M::Unknown),
            Self::Other => false,
        }
    }
}

impl LabelValue for EndpointLabel {
    const ALL: &'static [Self] = &[
        Self::Base,
        Self::Manifest,
        Self::Tags,
        Self::Blob,
        Self::BlobUpload,
        Self::BlobUploadChunk,
        Self::Catalog,
        Self::Referrers,
        Self::Other,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Manifest => "manifest",
            Self::Tags => "tags",
            Self::Blob => "blob",
            Self::BlobUpload => "blob_upload",
            Self::BlobUploadChunk => "blob_upload_chunk",
            Self::Catalog => "catalog",
            Self::Referrers => "referrers",
            Self::Other => "other",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

// === impl MethodLabel ===

impl MethodLabel {
    pub(crate) fn of(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::PATCH => Self::Patch,
            http::Method::DELETE => Self::Delete,
            _ => Self::Unknown,
        }
    }
}

impl LabelValue for MethodLabel {
    const ALL: &'static [Self] =
        &[Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Unknown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Unknown => "unknown",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

// === impl Code ===

impl Code {
    const ALL: [Self; CODES.len()] = {
        let mut all = [Self(0); CODES.len()];
        let mut index = 0;
        while index < all.len() {
            #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 256 codes")]
            let code = Self(index as u8);
            all[index] = code;
            index += 1;
        }
        all
    };

    /// Code of a request whose client did not wait for the answer.
    pub(crate) const CLIENT_LEFT: Self = Self::ALL[CODES.len() - 2];

    pub(crate) fn of(status: StatusCode) -> Self {
        let found = Self::ALL.into_iter().find(|code| code.as_str() == status.as_str());
        found.unwrap_or(Self::ALL[CODES.len() - 1])
    }

    /// Returns true for the codes whose series exist from the start: successes, and what alerts ask for.
    pub(super) fn is_expected(self) -> bool {
        ["200", "201", "202", "404", "500", "503", "507"].contains(&self.as_str())
    }
}

impl LabelValue for Code {
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        CODES[usize::from(self.0)]
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

// === impl Driver ===

impl LabelValue for Driver {
    const ALL: &'static [Self] = &[Self::Filesystem, Self::InMemory, Self::S3, Self::Gcs, Self::Azure];

    fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::InMemory => "inmemory",
            Self::S3 => "s3aws",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }
}

// === impl ActionLabel ===

impl ActionLabel {
    const ALL: [Self; StorageAction::ALL.len()] = {
        let mut all = [Self(StorageAction::GetContent); StorageAction::ALL.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = Self(StorageAction::ALL[index]);
            index += 1;
        }
        all
    };
}

impl LabelValue for ActionLabel {
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_a_path_is_that_of_its_route() {
        for path in [
            "/v2/",
            "/v2",
            "/v2/_catalog",
            "/v2/quinistry/manifests/latest",
            "/v2/a/b/c/manifests/sha256%3Aab",
            "/v2/a/blobs/sha256:ab",
            "/v2/a/blobs/uploads/",
            "/v2/a/blobs/uploads",
            "/v2/a/blobs/uploads/0-1",
            "/v2/a/tags/list",
            "/v2/a/referrers/sha256:ab",
            "/v2/blobs/uploads/manifests/x",
            "/v2/manifests/manifests/manifests",
            "/v2/tags/list/tags/list",
            "/v2/a/%62lobs/uploads/1",
        ] {
            let route = Route::parse(path).unwrap();
            assert_eq!(EndpointLabel::of_path(path), EndpointLabel::of_route(&route), "{path}");
        }
        for path in
            ["", "/", "*", "/v1/", "/v2x", "/v2/a", "/v2/a/tags", "/metrics", "/V2/", "/v2/%ff/manifests/x"]
        {
            assert_eq!(EndpointLabel::of_path(path), EndpointLabel::Other, "{path}");
        }
        // A name that is not valid is a fault of the request, not another endpoint.
        assert_eq!(EndpointLabel::of_path("/v2/A/manifests/x"), EndpointLabel::Manifest);
    }

    #[test]
    fn each_value_is_at_its_place_and_has_a_name_of_its_own() {
        fn check<V: LabelValue + std::fmt::Debug>() {
            let names: std::collections::BTreeSet<&str> = V::ALL.iter().map(|value| value.as_str()).collect();
            assert_eq!(names.len(), V::ALL.len());
            for (index, value) in V::ALL.iter().enumerate() {
                assert_eq!(value.index(), index, "{value:?}");
            }
        }
        check::<EndpointLabel>();
        check::<MethodLabel>();
        check::<Code>();
        check::<Driver>();
        check::<ActionLabel>();
    }

    #[test]
    fn statuses_outside_of_the_set_share_a_code() {
        assert_eq!(Code::of(StatusCode::NOT_FOUND).as_str(), "404");
        assert_eq!(Code::of(StatusCode::IM_A_TEAPOT).as_str(), "other");
        assert_eq!(MethodLabel::of(&http::Method::TRACE).as_str(), "unknown");
    }
}
