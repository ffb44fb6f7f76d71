//! Storage in a bucket from a checked tree.

use std::path::PathBuf;

use super::super::model::{
    AzureConfig, AzureLogin, BucketConfig, BucketStore, CoherenceConfig, GcsConfig, RedirectConfig, S3Config,
    SecretText,
};
use super::super::rules::bucket::{AZURE_PART_BYTES, MIN_PART_BYTES, credentials_of_gcs};
use super::Section;

/// Class that stands for none, in distribution as well.
const NO_CLASS: &str = "NONE";

/// Makes the bucket, if a driver of one is configured.
pub(super) fn bucket(root: Section<'_>) -> Option<BucketConfig> {
    let storage = root.node.at("storage")?;
    let driver = ["s3", "gcs", "azure"].into_iter().find(|driver| storage.entry(driver).is_some())?;
    let path = |key: &str| format!("storage.{driver}.{key}");
    let store = match driver {
        "s3" => BucketStore::S3(s3(root)),
        "gcs" => BucketStore::Gcs(gcs(root)),
        _ => BucketStore::Azure(azure(root)),
    };
    let part_bytes = if driver == "azure" { AZURE_PART_BYTES } else { root.bytes(&path("chunksize")) };
    Some(BucketConfig {
        store,
        root: root.text(&path("rootdirectory")),
        user_agent: if driver == "azure" { None } else { given(root, &path("useragent")) },
        skips_verification: driver != "gcs" && root.boolean(&path("skipverify")),
        part_bytes: part_bytes.max(MIN_PART_BYTES),
        memory_bytes: root.size("quinistry.uploads.memory"),
        is_exclusive: root.boolean("quinistry.exclusive"),
    })
}

/// Makes the redirects of pulls, unless they are off.
pub(super) fn redirect(root: Section<'_>) -> Option<RedirectConfig> {
    (!root.boolean("storage.redirect.disable")).then(|| RedirectConfig {
        expiry: root.positive_duration("quinistry.redirect.expiry"),
        min_bytes: root.size("quinistry.redirect.minsize"),
    })
}

pub(super) fn coherence(root: Section<'_>) -> Option<CoherenceConfig> {
    Some(match root.word("quinistry.coherence")? {
        "relaxed" => CoherenceConfig::Relaxed,
        _ => CoherenceConfig::Strict,
    })
}

fn s3(root: Section<'_>) -> S3Config {
    let text = |key: &str| given(root, &format!("storage.s3.{key}"));
    let boolean = |key: &str| root.boolean(&format!("storage.s3.{key}"));
    let bytes = |key: &str| root.bytes(&format!("storage.s3.{key}"));
    let endpoint = text("regionendpoint");
    let path_style = root.value("storage.s3.forcepathstyle").map(|_| boolean("forcepathstyle"));
    let class = root.text("storage.s3.storageclass").to_ascii_uppercase();
    S3Config {
        bucket: root.text("storage.s3.bucket"),
        region: text("region"),
        is_secure: boolean("secure"),
        path_style: path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        keys: text("accesskey").zip(text("secretkey").map(SecretText)),
        session_token: text("sessiontoken").map(SecretText),
        encrypts: boolean("encrypt"),
        key_id: text("keyid"),
        storage_class: Some(class).filter(|class| class != NO_CLASS),
        acl: text("objectacl").filter(|acl| acl != "private"),
        redirect_endpoint: text("redirectendpoint"),
        dual_stack: boolean("usedualstack"),
        fips: boolean("usefipsendpoint"),
        accelerate: boolean("accelerate"),
        copy_part_bytes: bytes("multipartcopychunksize").max(MIN_PART_BYTES),
        copy_threshold_bytes: bytes("multipartcopythresholdsize"),
        copy_parts_at_once: usize::try_from(bytes("multipartcopymaxconcurrency"))
            .unwrap_or(usize::MAX)
            .max(1),
    }
}

fn gcs(root: Section<'_>) -> GcsConfig {
    let concurrency =
        root.value("storage.gcs.maxconcurrency").map(|_| root.bytes("storage.gcs.maxconcurrency"));
    let concurrency = concurrency.and_then(|most| usize::try_from(most).ok());
    GcsConfig {
        bucket: root.text("storage.gcs.bucket"),
        key_file: given(root, "storage.gcs.keyfile").map(PathBuf::from),
        credentials: root
            .value("storage.gcs.credentials")
            .and_then(credentials_of_gcs)
            .map(|credentials| SecretText(credentials.to_string())),
        max_concurrency: concurrency.filter(|most| *most > 0),
    }
}

fn azure(root: Section<'_>) -> AzureConfig {
    let text = |key: &str| given(root, &format!("storage.azure.{key}"));
    let key = text("accountkey").map(SecretText);
    let kind = root.word("storage.azure.credentials.type");
    let credentials = match (kind, key) {
        (Some("client_secret"), _) => AzureLogin::ClientSecret {
            tenant: root.text("storage.azure.credentials.tenantid"),
            client: root.text("storage.azure.credentials.clientid"),
            secret: SecretText(root.text("storage.azure.credentials.secret")),
        },
        (None | Some("shared_key"), Some(key)) => AzureLogin::SharedKey(key),
        _ => AzureLogin::Environment,
    };
    AzureConfig {
        account: root.text("storage.azure.accountname"),
        container: root.text("storage.azure.container"),
        credentials,
        service_url: text("serviceurl"),
        realm: text("realm"),
        max_retries: u32::try_from(root.integer("storage.azure.max_retries")).ok(),
        retry_delay: root.duration("storage.azure.retry_delay"),
        has_legacy_root: root.boolean("quinistry.azure.legacyroot"),
    }
}

/// Returns a text that is not empty.
fn given(root: Section<'_>, key: &str) -> Option<String> {
    Some(root.text(key)).filter(|text| !text.is_empty())
}
