//! Settings of a bucket, as far as the store tells them.

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::S3;
use crate::transport::What;
use crate::xml::parse;
use crate::{BucketSettings, ObjectError, ObjectErrorKind};

/// Answer to `GET ?versioning`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioning {
    status: Option<String>,
}

/// Answer to `GET ?lifecycle`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lifecycle {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    status: Option<String>,
    abort_incomplete_multipart_upload: Option<serde::de::IgnoredAny>,
}

/// Answer to `GET ?policyStatus`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyStatus {
    is_public: Option<String>,
}

impl S3 {
    /// Asks for the settings of the bucket. Refusals leave a setting unknown: no right to ask is needed.
    pub(super) async fn ask_settings(&self) -> BucketSettings {
        if !self.dialect.is_amazon() {
            return BucketSettings::default();
        }
        let (versioning, lifecycle, policy) = futures_util::join!(
            self.setting::<Versioning>("versioning"),
            self.setting::<Lifecycle>("lifecycle"),
            self.setting::<PolicyStatus>("policyStatus"),
        );
        let is = |text: Option<String>, expected: &str| {
            text.is_some_and(|text| text.eq_ignore_ascii_case(expected))
        };
        BucketSettings {
            keeps_versions: known(versioning, |versioning| is(versioning.status, "Enabled")),
            ends_uploads: known(lifecycle, |lifecycle| {
                lifecycle.rules.into_iter().any(|rule| {
                    rule.abort_incomplete_multipart_upload.is_some() && is(rule.status, "Enabled")
                })
            }),
            is_public: known(policy, |policy| is(policy.is_public, "true")),
            has_folders: None,
        }
    }

    async fn setting<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, ObjectError> {
        let what = What("GET BUCKET", name);
        let answer = self.send(self.bucket_request(Method::GET, &[(name, "")]), what).await?;
        parse(&answer.bytes(what).await?, what)
    }
}

/// Returns a setting; false where the bucket has none.
fn known<T>(answer: Result<T, ObjectError>, is_so: impl FnOnce(T) -> bool) -> Option<bool> {
    match answer {
        Ok(answer) => Some(is_so(answer)),
        Err(error) if error.kind == ObjectErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_amazon_are_understood() {
        let what = What("GET BUCKET", "");
        let versioning: Versioning = parse(
            b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>",
            what,
        )
        .unwrap();
        assert_eq!(versioning.status.as_deref(), Some("Enabled"));
        let none: Versioning = parse(b"<VersioningConfiguration/>", what).unwrap();
        assert_eq!(none.status, None);
        let lifecycle: Lifecycle = parse(
            b"<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
              <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>\
              </AbortIncompleteMultipartUpload></Rule><Rule><Status>Disabled</Status></Rule></LifecycleConfiguration>",
            what,
        )
        .unwrap();
        let aborting: Vec<bool> =
            lifecycle.rules.iter().map(|rule| rule.abort_incomplete_multipart_upload.is_some()).collect();
        assert_eq!(aborting, [true, false]);
        let policy: PolicyStatus =
            parse(b"<PolicyStatus><IsPublic>TRUE</IsPublic></PolicyStatus>", what).unwrap();
        assert_eq!(policy.is_public.as_deref(), Some("TRUE"));
    }

    #[test]
    fn a_refused_question_is_no_answer_and_an_absent_setting_is_one() {
        let answer = |kind| Err::<(), _>(ObjectError::new(kind, "x"));
        assert_eq!(known(answer(ObjectErrorKind::Denied), |()| true), None);
        assert_eq!(known(answer(ObjectErrorKind::NotFound), |()| true), Some(false));
        assert_eq!(known(Ok(()), |()| true), Some(true));
    }
}
