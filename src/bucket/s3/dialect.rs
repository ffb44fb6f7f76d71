//! The two dialects of the XML interface: Amazon S3's, and Google Cloud Storage's, which has other headers, other
//! signatures and generations.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::aws::AwsCredential;
use object_store::gcp::GcpCredential;

use super::google_url::ServiceAccountKey;
use super::sign::Signer;
use crate::credentials::Credentials;
pub(super) use crate::transport::insert;
use crate::transport::{Request, no_credential};
use crate::{Condition, ObjectError};

/// Dialect of a store, with its credentials.
#[derive(Debug)]
pub(super) enum Dialect {
    /// Dialect of Amazon S3.
    Amazon {
        /// Region of the bucket.
        region: String,
        /// Credentials.
        credentials: Credentials<AwsCredential>,
    },
    /// Dialect of Google Cloud Storage.
    Google {
        /// Credentials.
        credentials: Credentials<GcpCredential>,
        /// Key that signs URLs. Without one, each URL would be a request to another service.
        url_key: Option<Box<ServiceAccountKey>>,
    },
}

/// Credentials of one request.
pub(super) enum Used {
    Amazon(Arc<AwsCredential>),
    Google(Arc<GcpCredential>),
}

// === impl Dialect ===

impl Dialect {
    /// Returns the region and the credential of a signature; `None` where the store has other signatures.
    pub(super) async fn signing(&self) -> Option<Result<(&str, Arc<AwsCredential>), ObjectError>> {
        let Self::Amazon { region, credentials } = self else { return None };
        Some(credentials.get().await.map(|credential| (&region[..], credential)).map_err(no_credential))
    }

    /// Adds the headers by which the store knows the sender. Returns the credentials that were used.
    pub(super) async fn authorize(
        &self,
        request: &mut Request,
        now: SystemTime,
    ) -> Result<Used, ObjectError> {
        Ok(match self {
            Self::Amazon { region, credentials } => {
                let credential = credentials.get().await.map_err(no_credential)?;
                Signer { credential: &credential, region, now }.sign(request);
                Used::Amazon(credential)
            }
            Self::Google { credentials, .. } => {
                let credential = credentials.get().await.map_err(no_credential)?;
                if !credential.bearer.is_empty()
                    && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", credential.bearer))
                {
                    value.set_sensitive(true);
                    request.headers.insert(AUTHORIZATION, value);
                }
                Used::Google(credential)
            }
        })
    }

    /// Replaces credentials that have expired. Returns false if there are no others.
    pub(super) async fn replace(&self, used: &Used) -> Result<bool, ObjectError> {
        let replaced = match (self, used) {
            (Self::Amazon { credentials, .. }, Used::Amazon(used)) => credentials.replace(used).await,
            (Self::Google { credentials, .. }, Used::Google(used)) => credentials.replace(used).await,
            _ => return Ok(false),
        };
        replaced.map_err(no_credential)
    }

    /// Returns the header of answers that holds the version of an object.
    pub(super) const fn version_header(&self) -> HeaderName {
        match self {
            Self::Amazon { .. } => ETAG,
            Self::Google { .. } => HeaderName::from_static("x-goog-generation"),
        }
    }

    /// Returns the header that names the source of a copy.
    pub(super) const fn copy_source(&self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Amazon { .. } => "x-amz-copy-source",
            Self::Google { .. } => "x-goog-copy-source",
        })
    }

    /// Returns true if the store removes many objects by one request, and copies ranges into parts.
    pub(super) const fn is_amazon(&self) -> bool {
        matches!(self, Self::Amazon { .. })
    }

    /// Adds the condition of a change.
    pub(super) fn add_condition(&self, headers: &mut HeaderMap, condition: Condition<'_>) {
        let (name, value) = match (self, condition) {
            (_, Condition::Always) => return,
            (Self::Amazon { .. }, Condition::Absent) => (IF_NONE_MATCH, "*".to_owned()),
            (Self::Amazon { .. }, Condition::Version(version)) => (IF_MATCH, format!("\"{version}\"")),
            (Self::Google { .. }, Condition::Absent) => (GENERATION_MATCH, "0".to_owned()),
            (Self::Google { .. }, Condition::Version(version)) => (GENERATION_MATCH, version.to_owned()),
        };
        insert(headers, name, &value);
    }

    /// Adds the condition of a read: the object has another version.
    pub(super) fn add_unless(&self, headers: &mut HeaderMap, version: &str) {
        match self {
            Self::Amazon { .. } => insert(headers, IF_NONE_MATCH, &format!("\"{version}\"")),
            Self::Google { .. } => insert(headers, GENERATION_NOT_MATCH, version),
        }
    }
}

const GENERATION_MATCH: HeaderName = HeaderName::from_static("x-goog-if-generation-match");
const GENERATION_NOT_MATCH: HeaderName = HeaderName::from_static("x-goog-if-generation-not-match");
