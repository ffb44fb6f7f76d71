//! Options of a bucket from a configuration. Pure.

use crate::bucket::{
    AzureCredentials, AzureOptions, BucketOptions, Endpoint, GcsCredentials, GcsOptions, RootPrefix,
    S3Encryption, S3Keys, S3Options, Secret, StoreOptions, TransferOptions,
};
use crate::registry::config::{
    AzureConfig, AzureLogin, BucketConfig, BucketStore, GcsConfig, S3Config, SecretText,
};

/// Least number of requests in flight that distribution's driver takes (`minConcurrency` in `gcs.go`).
const MIN_GCS_CONCURRENCY: usize = 25;

/// Problem of a configuration that no bucket can be opened from.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {message}")]
pub(in crate::cli) struct InvalidBucket {
    /// Key that has the problem.
    pub(in crate::cli) key: String,
    /// Problem, and what to do.
    pub(in crate::cli) message: String,
}

fn invalid(key: &str, problem: impl std::fmt::Display) -> InvalidBucket {
    InvalidBucket { key: key.to_owned(), message: problem.to_string() }
}

/// Returns the options of the bucket that a configuration names.
pub(in crate::cli) fn options(config: &BucketConfig) -> Result<BucketOptions, InvalidBucket> {
    let (store, driver) = match &config.store {
        BucketStore::S3(s3) => (StoreOptions::S3(s3_options(s3)?), "s3"),
        BucketStore::Gcs(gcs) => (StoreOptions::Gcs(gcs_options(gcs)), "gcs"),
        BucketStore::Azure(azure) => (StoreOptions::Azure(azure_options(azure)?), "azure"),
    };
    let root = match driver {
        // Distribution removes spaces around the keys of Google Cloud Storage (`gcs.go`).
        "gcs" => config.root.trim(),
        _ => &config.root,
    };
    let root = if driver == "s3" { RootPrefix::for_s3(root) } else { root.parse() };
    let root = root.map_err(|error| invalid(&format!("storage.{driver}.rootdirectory"), error))?;
    let mut options = BucketOptions::new(store, root);
    options.user_agent.clone_from(&config.user_agent);
    options.verifies_certificate = !config.skips_verification;
    options.is_exclusive = config.is_exclusive;
    options.transfers.part_bytes = config.part_bytes;
    options.transfers.memory_bytes = config.memory_bytes;
    match &config.store {
        BucketStore::S3(s3) => {
            options.transfers.copy_part_bytes = s3.copy_part_bytes;
            options.transfers.copy_threshold_bytes = s3.copy_threshold_bytes;
            options.transfers.copy_parts_at_once =
                s3.copy_parts_at_once.min(TransferOptions::MAX_COPY_PARTS_AT_ONCE);
        }
        BucketStore::Gcs(gcs) => {
            options.max_in_flight = gcs.max_concurrency.map(|most| most.max(MIN_GCS_CONCURRENCY));
        }
        BucketStore::Azure(azure) => {
            options.max_retries = Some(azure.max_retries.unwrap_or(0));
            options.retry_delay = Some(azure.retry_delay);
        }
    }
    Ok(options)
}

fn s3_options(config: &S3Config) -> Result<S3Options, InvalidBucket> {
    let endpoint = |key: &str, text: &Option<String>| {
        let read = text.as_deref().map(|text| Endpoint::of_host(text, config.is_secure)).transpose();
        read.map_err(|error| invalid(&format!("storage.s3.{key}"), error))
    };
    let session_token = config.session_token.as_ref().map(secret);
    Ok(S3Options {
        bucket: config.bucket.clone(),
        region: config.region.clone(),
        endpoint: endpoint("regionendpoint", &config.endpoint)?,
        path_style: config.path_style,
        keys: config.keys.as_ref().map(|(access_key, secret_key)| S3Keys {
            access_key: access_key.clone(),
            secret_key: secret(secret_key),
            session_token,
        }),
        encryption: match &config.key_id {
            _ if !config.encrypts => S3Encryption::BucketDefault,
            None => S3Encryption::Aes256,
            Some(key) => S3Encryption::Kms(key.clone()),
        },
        storage_class: config.storage_class.clone(),
        acl: config.acl.clone(),
        redirect_endpoint: endpoint("redirectendpoint", &config.redirect_endpoint)?,
        dual_stack: config.dual_stack,
        fips: config.fips,
        accelerate: config.accelerate,
    })
}

fn gcs_options(config: &GcsConfig) -> GcsOptions {
    let credentials = match (&config.key_file, &config.credentials) {
        (Some(path), _) => GcsCredentials::KeyFile(path.clone()),
        (None, Some(key)) => GcsCredentials::Key(secret(key)),
        (None, None) => GcsCredentials::Environment,
    };
    GcsOptions { bucket: config.bucket.clone(), credentials, endpoint: None }
}

fn azure_options(config: &AzureConfig) -> Result<AzureOptions, InvalidBucket> {
    let endpoint = config.service_url.as_deref().map(|url| Endpoint::with_path(url, true)).transpose();
    Ok(AzureOptions {
        account: config.account.clone(),
        container: config.container.clone(),
        credentials: match &config.credentials {
            AzureLogin::Environment => AzureCredentials::Environment,
            AzureLogin::SharedKey(key) => AzureCredentials::SharedKey(secret(key)),
            AzureLogin::ClientSecret { tenant, client, secret: text } => AzureCredentials::ClientSecret {
                tenant: tenant.clone(),
                client: client.clone(),
                secret: secret(text),
            },
        },
        endpoint: endpoint.map_err(|error| invalid("storage.azure.serviceurl", error))?,
        realm: config.realm.clone(),
        has_leading_slash: config.has_legacy_root,
    })
}

fn secret(text: &SecretText) -> Secret {
    Secret::new(text.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::config::{Source, StorageLocation, load};

    fn read(storage: &str) -> Result<BucketOptions, InvalidBucket> {
        let text = format!("version: 0.1\nstorage: {storage}\n");
        let source = Source { name: "c.yml", bytes: text.as_bytes() };
        let loaded = load(Some(source), [], &crate::cli::configuration::Files);
        let location = loaded.storage.expect("an accepted storage").location;
        let StorageLocation::Bucket(bucket) = location else { panic!("{location:?}") };
        options(&bucket)
    }

    #[test]
    fn a_configuration_and_a_url_of_one_bucket_are_the_same_options() {
        for (storage, url) in [
            (
                "{s3: {bucket: a, region: eu-central-1, rootdirectory: /b/c, storageclass: NONE}}",
                "s3://a/b/c?region=eu-central-1",
            ),
            (
                "{s3: {bucket: a, regionendpoint: 'http://127.0.0.1:9000', storageclass: NONE}}",
                "s3://a?endpoint=http://127.0.0.1:9000",
            ),
            ("{gcs: {bucket: a, rootdirectory: ' b ', chunksize: 10485760}}", "gs://a/b"),
            ("{gcs: {bucket: a, rootdirectory: a//b, chunksize: 10485760}}", "gs://a/a//b"),
        ] {
            assert_eq!(read(storage).unwrap(), url.parse().unwrap(), "{storage}");
        }
    }

    #[test]
    fn the_concurrency_of_google_limits_requests() {
        let limit = |text: &str| read(&format!("{{gcs: {{bucket: a{text}}}}}")).unwrap().max_in_flight;
        assert_eq!(
            [limit(""), limit(", maxconcurrency: 40"), limit(", maxconcurrency: 1")],
            [None, Some(40), Some(25)]
        );
    }

    #[test]
    fn what_no_client_can_address_is_refused_with_its_key() {
        for (storage, problem) in [
            (
                "{s3: {bucket: a, region: b, rootdirectory: a//b}}",
                "storage.s3.rootdirectory: has an empty component",
            ),
            (
                "{s3: {bucket: a, regionendpoint: 'https://a/b'}}",
                "storage.s3.regionendpoint: must not have a path",
            ),
            (
                "{s3: {bucket: a, region: b, redirectendpoint: 'https://a?x'}}",
                "storage.s3.redirectendpoint: must not hold a user, a query",
            ),
            (
                "{azure: {accountname: a, container: b, serviceurl: 'https://user@a'}}",
                "storage.azure.serviceurl: must not hold a user",
            ),
        ] {
            let message = read(storage).unwrap_err().to_string();
            assert!(message.starts_with(problem), "{message}");
        }
    }

    #[test]
    fn no_secret_is_shown_by_debug() {
        let storage =
            "{s3: {bucket: a, region: b, accesskey: AKIA, secretkey: verysecret, sessiontoken: verysecret}}";
        let shown = format!("{:?}", read(storage).unwrap());
        assert!(!shown.contains("verysecret") && shown.contains("***"), "{shown}");
    }
}
