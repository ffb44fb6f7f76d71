//! The error codes of the distribution-spec, and the JSON body that carries them.
//!
//! Both sides of the wire use these: the registry writes them, the client reads them.

use serde::{Deserialize, Serialize};

/// A code of the distribution-spec, section Error Codes, or [`Unavailable`](Self::Unavailable) or
/// [`Unknown`](Self::Unknown) of distribution. No others are ever sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names tell the codes")]
pub enum ErrorCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    Unavailable,
    Unknown,
}

/// `{"errors":[…]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody<C = ErrorCode> {
    /// At least one error.
    pub errors: Vec<ErrorDetail<C>>,
}

/// One error. Readers take `C = String`, because other registries send codes of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail<C = ErrorCode> {
    /// Code of the error.
    pub code: C,
    /// Text for a human reader.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Further data without a fixed form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_as_in_the_specification() {
        let spelled = |code: ErrorCode| serde_json::to_string(&code).unwrap();
        assert_eq!(spelled(ErrorCode::BlobUploadUnknown), "\"BLOB_UPLOAD_UNKNOWN\"");
        assert_eq!(spelled(ErrorCode::TooManyRequests), "\"TOOMANYREQUESTS\"");
    }
}
