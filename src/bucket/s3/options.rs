//! Clients from options.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use reqwest::Url;

use super::S3;
use super::dialect::{Dialect, insert};
use super::external_account::ExternalAccount;
use super::google_url::ServiceAccountKey;
use crate::credentials::{Credentials, Provider};
use crate::transport::{Connector, Transport, retries};
use crate::{
    GcsCredentials, GcsOptions, HttpClients, InvalidStore, RootPrefix, S3Encryption, S3Options, Secret,
};

impl S3 {
    /// Creates the client of a bucket. Sends nothing.
    pub fn amazon(
        options: &S3Options,
        root: &RootPrefix,
        clients: HttpClients,
    ) -> Result<Self, InvalidStore> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let region = options.region.clone().or_else(|| variable("AWS_REGION"));
        let region = region.or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.or_else(|| options.endpoint.is_some().then(|| "us-east-1".to_owned()));
        let region = region.ok_or(InvalidStore::NoRegion)?;
        let credentials = if let Some(keys) = &options.keys {
            Credentials::fixed(Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: keys.access_key.clone(),
                secret_key: keys.secret_key.expose().to_owned(),
                token: keys.session_token.as_ref().map(|token| token.expose().to_owned()),
            })))
        } else {
            let builder = AmazonS3Builder::from_env().with_bucket_name(&options.bucket).with_region(&region);
            let builder =
                builder.with_retry(retries()).with_http_connector(Connector(clients.credentials.clone()));
            Credentials::of_chain(move || Ok(builder.clone().build()?.credentials().clone()))
                .map_err(InvalidStore::Credentials)?
        };
        let url = amazon_url(options, &region)?;
        let public_url = match &options.redirect_endpoint {
            Some(endpoint) => parse(&format!("{endpoint}/{}/", options.bucket), &options.bucket)?,
            None => url.clone(),
        };
        Ok(Self {
            transport: Transport::new(clients.store),
            dialect: Dialect::Amazon { region, credentials },
            bucket: options.bucket.clone(),
            url,
            public_url,
            root: root.key_prefix(),
            new_object: new_object(options),
        })
    }
}

/// Store of Google.
const GOOGLE: &str = "https://storage.googleapis.com";

impl S3 {
    /// Creates the client of a bucket of Google Cloud Storage. Sends nothing.
    pub fn google(
        options: &GcsOptions,
        root: &RootPrefix,
        clients: HttpClients,
    ) -> Result<Self, InvalidStore> {
        let endpoint = options.endpoint.as_ref().map_or(GOOGLE, |endpoint| endpoint.as_str());
        let (builder, url_key) = match google_key(&options.credentials)? {
            Some((key, GoogleKeyType::ExternalAccount)) => {
                let credentials = external_account(key, clients.credentials)?;
                return Self::of_google(options, root, (clients.store, endpoint), (credentials, None));
            }
            Some((key, GoogleKeyType::ServiceAccount)) => {
                let builder = GoogleCloudStorageBuilder::new().with_service_account_key(key.expose());
                (builder, ServiceAccountKey::of_json(&key).map(Box::new))
            }
            _ => (GoogleCloudStorageBuilder::from_env(), None),
        };
        let builder = builder.with_bucket_name(&options.bucket).with_base_url(endpoint);
        let builder = builder.with_retry(retries()).with_http_connector(Connector(clients.credentials));
        let credentials = Credentials::of_chain(move || Ok(builder.clone().build()?.credentials().clone()))
            .map_err(InvalidStore::Credentials)?;
        Self::of_google(options, root, (clients.store, endpoint), (credentials, url_key))
    }

    fn of_google(
        options: &GcsOptions,
        root: &RootPrefix,
        (client, endpoint): (reqwest::Client, &str),
        (credentials, url_key): (Credentials<GcpCredential>, Option<Box<ServiceAccountKey>>),
    ) -> Result<Self, InvalidStore> {
        let url = parse(&format!("{endpoint}/{}/", options.bucket), &options.bucket)?;
        Ok(Self {
            transport: Transport::new(client),
            dialect: Dialect::Google { credentials, url_key },
            bucket: options.bucket.clone(),
            public_url: url.clone(),
            url,
            root: root.key_prefix(),
            new_object: HeaderMap::new(),
        })
    }
}

/// Returns the credentials of a workload identity federation. Those that the store refuses are replaced by an exchange
/// that knows no token.
fn external_account(
    key: Secret,
    client: reqwest::Client,
) -> Result<Credentials<GcpCredential>, InvalidStore> {
    ExternalAccount::parse(&key, client.clone())?;
    let build = move || match ExternalAccount::parse(&key, client.clone()) {
        Ok(account) => Ok(Arc::new(account) as Provider<GcpCredential>),
        Err(error) => Err(object_store::Error::Generic { store: "GCS", source: Box::new(error) }),
    };
    Credentials::of_chain(build).map_err(InvalidStore::Credentials)
}

/// Type of a file with credentials of Google.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GoogleKeyType {
    /// Key of a service account, which signs URLs, too.
    ServiceAccount,
    /// Workload identity federation.
    ExternalAccount,
    /// Another one, such as that of a user. The chain of the environment reads it, or refuses it.
    Other,
}

/// Reads the credentials that are given, or named by the environment; `None` if there are none.
fn google_key(credentials: &GcsCredentials) -> Result<Option<(Secret, GoogleKeyType)>, InvalidStore> {
    let path = match credentials {
        GcsCredentials::Key(key) => return Ok(Some((key.clone(), google_key_type(key, true)))),
        GcsCredentials::KeyFile(path) => path.clone(),
        GcsCredentials::Environment => match std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS") {
            Some(path) if !path.is_empty() => path.into(),
            _ => return Ok(None),
        },
    };
    let text = std::fs::read_to_string(&path).map_err(|error| InvalidStore::File(path, error))?;
    let key = Secret::new(text);
    let kind = google_key_type(&key, *credentials != GcsCredentials::Environment);
    Ok(Some((key, kind)))
}

/// Returns the type of credentials. Those of a configuration are the key of a service account, as in distribution,
/// unless they say something else.
fn google_key_type(key: &Secret, is_of_configuration: bool) -> GoogleKeyType {
    let document: serde_json::Value = serde_json::from_str(key.expose()).unwrap_or_default();
    match document["type"].as_str() {
        Some("external_account") => GoogleKeyType::ExternalAccount,
        Some("service_account") => GoogleKeyType::ServiceAccount,
        _ if is_of_configuration => GoogleKeyType::ServiceAccount,
        _ => GoogleKeyType::Other,
    }
}

/// Returns the URL of Amazon's service in a region.
fn amazon_endpoint(options: &S3Options, region: &str) -> String {
    let service = match (options.accelerate, options.fips) {
        (true, _) => "s3-accelerate",
        (false, true) => "s3-fips",
        (false, false) => "s3",
    };
    let stack = if options.dual_stack { ".dualstack" } else { "" };
    let place = if options.accelerate { String::new() } else { format!(".{region}") };
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://{service}{stack}{place}.{domain}")
}

/// Returns the URL of a bucket, with a slash at its end.
fn amazon_url(options: &S3Options, region: &str) -> Result<Url, InvalidStore> {
    let bucket = &options.bucket;
    let endpoint =
        options.endpoint.as_ref().map_or_else(|| amazon_endpoint(options, region), ToString::to_string);
    // A wildcard certificate covers one label.
    let is_in_path = options.path_style || (endpoint.starts_with("https:") && bucket.contains('.'));
    match endpoint.split_once("://").filter(|_| !is_in_path) {
        Some((scheme, host)) => parse(&format!("{scheme}://{bucket}.{host}/"), bucket),
        None => parse(&format!("{endpoint}/{bucket}/"), bucket),
    }
}

fn parse(text: &str, bucket: &str) -> Result<Url, InvalidStore> {
    let invalid = || InvalidStore::Url(bucket.to_owned());
    let is_name = !bucket.is_empty() && !bucket.contains(['/', '?', '#', '@', '%', ' ']);
    if is_name { text.parse().map_err(|_| invalid()) } else { Err(invalid()) }
}

fn new_object(options: &S3Options) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name, value: &str| insert(&mut headers, HeaderName::from_static(name), value);
    match &options.encryption {
        S3Encryption::BucketDefault => {}
        S3Encryption::Aes256 => add("x-amz-server-side-encryption", "AES256"),
        S3Encryption::Kms(key) => {
            add("x-amz-server-side-encryption", "aws:kms");
            add("x-amz-server-side-encryption-aws-kms-key-id", key);
        }
    }
    if let Some(class) = &options.storage_class {
        add("x-amz-storage-class", class);
    }
    if let Some(acl) = &options.acl {
        add("x-amz-acl", acl);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn url(change: impl FnOnce(&mut S3Options)) -> String {
        let mut options = S3Options { bucket: "b".into(), ..S3Options::default() };
        change(&mut options);
        amazon_url(&options, "eu-west-1").unwrap().into()
    }

    #[test]
    fn a_bucket_stands_in_the_host_or_in_the_path() {
        let endpoint = |text| Some(Endpoint::of_host(text, true).unwrap());
        assert_eq!(url(|_| {}), "https://b.s3.eu-west-1.amazonaws.com/");
        assert_eq!(url(|options| options.path_style = true), "https://s3.eu-west-1.amazonaws.com/b/");
        assert_eq!(url(|options| options.bucket = "b.c".into()), "https://s3.eu-west-1.amazonaws.com/b.c/");
        assert_eq!(
            url(|options| options.dual_stack = true),
            "https://b.s3.dualstack.eu-west-1.amazonaws.com/"
        );
        assert_eq!(url(|options| options.fips = true), "https://b.s3-fips.eu-west-1.amazonaws.com/");
        assert_eq!(url(|options| options.accelerate = true), "https://b.s3-accelerate.amazonaws.com/");
        assert_eq!(url(|options| options.endpoint = endpoint("s3.example.com")), "https://b.s3.example.com/");
        assert_eq!(
            url(|options| {
                options.endpoint = endpoint("http://127.0.0.1:9000");
                options.path_style = true;
            }),
            "http://127.0.0.1:9000/b/"
        );
    }

    #[test]
    fn a_name_that_would_change_the_url_is_refused() {
        for bucket in ["", "a/b", "a?b", "a@b", "a%2fb", "a b"] {
            let options = S3Options { bucket: bucket.into(), ..S3Options::default() };
            assert!(amazon_url(&options, "r").is_err(), "{bucket:?}");
        }
    }

    #[test]
    fn new_objects_have_the_headers_of_the_options() {
        let options = S3Options {
            encryption: S3Encryption::Kms("key".into()),
            storage_class: Some("STANDARD_IA".into()),
            acl: Some("bucket-owner-full-control".into()),
            ..S3Options::default()
        };
        let headers = new_object(&options);
        assert_eq!(headers["x-amz-server-side-encryption"], "aws:kms");
        assert_eq!(headers["x-amz-server-side-encryption-aws-kms-key-id"], "key");
        assert_eq!(headers["x-amz-storage-class"], "STANDARD_IA");
        assert_eq!(headers["x-amz-acl"], "bucket-owner-full-control");
        assert!(new_object(&S3Options::default()).is_empty());
    }
}
