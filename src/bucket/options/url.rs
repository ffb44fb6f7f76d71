//! Buckets by URL: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` and `az://ACCOUNT/CONTAINER/PREFIX`.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::{AzureOptions, BucketOptions, Endpoint, GcsOptions, InvalidEndpoint, InvalidRoot};
use super::{RootPrefix, S3Options, StoreOptions};

/// Error of a text that is no URL of a bucket. Texts that may hold a password are not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBucketUrl {
    /// The scheme is not that of a store.
    #[error(
        "must begin with s3://BUCKET, gs://BUCKET or az://ACCOUNT/CONTAINER, each with a prefix behind it if you like"
    )]
    Scheme,
    /// The URL has a user or a password.
    #[error("must not hold credentials; set them in the environment, such as AWS_ACCESS_KEY_ID")]
    Credentials,
    /// A name of an account, a bucket or a container is missing, or has a character that none may have.
    #[error("needs a {0} of letters, digits, ., - and _")]
    Name(&'static str),
    /// The prefix is not valid.
    #[error("has a prefix that {0}")]
    Root(#[from] InvalidRoot),
    /// The endpoint is not valid.
    #[error("has an endpoint that {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// An option is not known.
    #[error("has an option that is not known; the options are {0}")]
    Option(&'static str),
    /// An option stands there twice.
    #[error("has the option {0} twice; remove one")]
    Twice(&'static str),
    /// An option needs a value, or has one that it cannot have.
    #[error("has the option {0} with a value that it cannot have")]
    Value(&'static str),
}

/// Options of a URL. Each is given at most once.
#[derive(Debug, Default)]
struct UrlOptions {
    region: Option<String>,
    endpoint: Option<String>,
    path_style: Option<bool>,
}

impl UrlOptions {
    const S3: &str = "region, endpoint and pathstyle";
    const OTHERS: &str = "endpoint";

    /// Reads a query, in which the options of S3 may stand, or that of the others.
    fn of_query(query: &str, is_s3: bool) -> Result<Self, InvalidBucketUrl> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
            let value = value.map(|value| percent_decode_str(value).decode_utf8().map(String::from));
            let text = |name: &'static str| match &value {
                Some(Ok(text)) if !text.is_empty() => Ok(text.clone()),
                _ => Err(InvalidBucketUrl::Value(name)),
            };
            let is_repeated = match name {
                "region" if is_s3 => options.region.replace(text("region")?).is_some().then_some("region"),
                "endpoint" => options.endpoint.replace(text("endpoint")?).is_some().then_some("endpoint"),
                "pathstyle" if is_s3 => {
                    let is_on = match value.as_ref().map(|value| value.as_deref()) {
                        None | Some(Ok("" | "true")) => true,
                        Some(Ok("false")) => false,
                        Some(_) => return Err(InvalidBucketUrl::Value("pathstyle")),
                    };
                    options.path_style.replace(is_on).is_some().then_some("pathstyle")
                }
                _ => return Err(InvalidBucketUrl::Option(if is_s3 { Self::S3 } else { Self::OTHERS })),
            };
            if let Some(name) = is_repeated {
                return Err(InvalidBucketUrl::Twice(name));
            }
        }
        Ok(options)
    }
}

impl BucketOptions {
    /// Returns true if a text has a scheme, and so is no path of a folder. A scheme that no bucket has is
    /// refused when the text is parsed.
    #[must_use]
    pub fn is_url(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_part)
        })
    }
}

impl FromStr for BucketOptions {
    type Err = InvalidBucketUrl;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidBucketUrl::Scheme)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Before anything else is told about the text.
        if place.contains(['@', '#']) || query.contains('#') {
            return Err(InvalidBucketUrl::Credentials);
        }
        let (first, path) = place.split_once('/').unwrap_or((place, ""));
        let endpoint = |options: &UrlOptions, may_have_path: bool| {
            let read = if may_have_path { Endpoint::with_path } else { Endpoint::of_host };
            options.endpoint.as_deref().map(|text| read(text, true)).transpose()
        };
        match scheme {
            "s3" => {
                let options = UrlOptions::of_query(query, true)?;
                let endpoint = endpoint(&options, false)?;
                let store = S3Options {
                    bucket: name(first, "bucket")?,
                    region: options.region,
                    // Stores beside Amazon's seldom have a host for each bucket, as in distribution 2.8.
                    path_style: options.path_style.unwrap_or(endpoint.is_some()),
                    endpoint,
                    ..S3Options::default()
                };
                Ok(Self::new(StoreOptions::S3(store), RootPrefix::for_s3(&decoded(path)?)?))
            }
            "gs" => {
                let endpoint = endpoint(&UrlOptions::of_query(query, false)?, true)?;
                let bucket = name(first, "bucket")?;
                let store = GcsOptions { bucket, endpoint, ..GcsOptions::default() };
                Ok(Self::new(StoreOptions::Gcs(store), decoded(path)?.parse()?))
            }
            "az" => {
                let endpoint = endpoint(&UrlOptions::of_query(query, false)?, true)?;
                let (container, path) = path.split_once('/').unwrap_or((path, ""));
                let (account, container) = (name(first, "account")?, name(container, "container")?);
                let store = AzureOptions { account, container, endpoint, ..AzureOptions::default() };
                Ok(Self::new(StoreOptions::Azure(store), decoded(path)?.parse()?))
            }
            _ => Err(InvalidBucketUrl::Scheme),
        }
    }
}

/// Reads the name of an account, a bucket or a container.
fn name(text: &str, what: &'static str) -> Result<String, InvalidBucketUrl> {
    let is_valid = BucketOptions::is_name(text);
    if is_valid { Ok(text.to_owned()) } else { Err(InvalidBucketUrl::Name(what)) }
}

fn decoded(path: &str) -> Result<Cow<'_, str>, InvalidRoot> {
    percent_decode_str(path).decode_utf8().map_err(|_| InvalidRoot::ControlCharacter)
}

impl BucketOptions {
    /// Returns true if a text can name an account, a bucket or a container: letters, digits, `.`, `-` and
    /// `_`. The stores demand more; with these characters a name can neither leave its place in a URL nor
    /// break a line.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !text.is_empty() && !matches!(text, "." | "..") && text.bytes().all(is_name_byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(url: &str) -> S3Options {
        match url.parse::<BucketOptions>().unwrap().store {
            StoreOptions::S3(s3) => s3,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_names_the_bucket_and_the_prefix() {
        for url in [
            "s3://images",
            "s3://images/a/b",
            "s3://images/a?endpoint=http://localhost:9000",
            "gs://images/a",
            "az://account/images",
            "az://account/images/a/b",
        ] {
            assert!(BucketOptions::is_url(url));
            assert_eq!(url.parse::<BucketOptions>().unwrap().to_string(), url);
        }
        assert_eq!("s3://images/a%20b/".parse::<BucketOptions>().unwrap().root.as_str(), "a b");
        for path in ["/srv/s3", "srv", "./ftp://x", "/a://b", "://b"] {
            assert!(!BucketOptions::is_url(path), "{path}");
        }
        for url in ["ftp://x", "s3a://bucket", "https://bucket.s3.amazonaws.com"] {
            assert!(BucketOptions::is_url(url), "{url}");
            assert_eq!(url.parse::<BucketOptions>().unwrap_err(), InvalidBucketUrl::Scheme);
        }
    }

    #[test]
    fn options_choose_the_region_the_endpoint_and_the_style() {
        let url = "s3://images/a?region=eu-central-1&endpoint=https%3A%2F%2Fminio.example.com%3A9000&pathstyle=false";
        let expected = S3Options {
            bucket: "images".into(),
            region: Some("eu-central-1".into()),
            endpoint: Some(Endpoint::of_host("minio.example.com:9000", true).unwrap()),
            ..S3Options::default()
        };
        assert_eq!(s3(url), expected);
        assert!(s3("s3://images?pathstyle").path_style);
        assert!(
            s3("s3://images?endpoint=http://127.0.0.1:9000").path_style,
            "other stores have no host per bucket"
        );
        assert!(!s3("s3://images").path_style);
    }

    #[test]
    fn row_210_credentials_and_unknown_options_are_refused_and_not_repeated() {
        for url in [
            "s3://key:secret@images",
            "s3://images/a#secret",
            "s3://images?accesskey=secret",
            "s3://images?endpoint=http://secret@host",
            "gs://images?pathstyle=secret",
            "s3://images?region=a&region=secret",
            "s3://images?pathstyle=secret",
            "ftp://secret",
            "s3://",
            "s3://bad bucket/secret",
            "az://account",
            "s3://images/a//secret",
            "s3://images/%2e%2e/secret",
        ] {
            let message = url.parse::<BucketOptions>().unwrap_err().to_string();
            assert!(!message.contains("secret"), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}
