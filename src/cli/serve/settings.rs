//! Settings of a registry from its configuration.

use std::sync::Arc;

use crate::registry::config::{Config, UrlPatterns, ValidationConfig};
use crate::registry::retention::Retention;
use crate::registry::{QuotaPolicies, Settings, TagPolicies, UploadSecret, UrlRules, Validation};

/// Makes the settings about the content of the storage, which is all that the work of a leader needs. Reads no file.
pub(in crate::cli) fn of_content(config: &Config) -> anyhow::Result<Settings> {
    let retention = config.retention.as_ref().map(Retention::new).transpose()?.map(Arc::new);
    Ok(Settings {
        read_only: config.storage.is_read_only,
        delete: config.storage.allows_delete,
        upload_expiry: config.storage.upload_purging,
        scrub: config.scrub.scrub,
        collection: config.collection,
        tags: tag_policies(config)?,
        quotas: quota_policies(config)?,
        pulls: retention.as_ref().and_then(|retention| retention.recording()),
        retention,
        ..Settings::default()
    })
}

fn tag_policies(config: &Config) -> anyhow::Result<Option<Arc<TagPolicies>>> {
    let policies = TagPolicies::new(&config.limits.immutable_tags, &config.limits.protected_tags)?;
    Ok((!policies.are_absent()).then(|| Arc::new(policies)))
}

fn quota_policies(config: &Config) -> anyhow::Result<Option<Arc<QuotaPolicies>>> {
    let quotas = &config.limits.quotas;
    Ok(if quotas.is_empty() { None } else { Some(Arc::new(QuotaPolicies::new(quotas)?)) })
}

pub(super) fn upload_secret(config: &Config) -> Option<UploadSecret> {
    config.http.secret.as_ref().map(|secret| UploadSecret::derived_from(secret.0.as_bytes()))
}

pub(super) fn validation(validation: &ValidationConfig) -> anyhow::Result<Validation> {
    if validation.is_disabled {
        return Ok(Validation::disabled());
    }
    let UrlPatterns { allow, deny } = &validation.urls;
    let urls = UrlRules::new(allow.iter().map(String::as_str), deny.iter().map(String::as_str))?;
    Ok(Validation { urls: Some(urls), entries: validation.indexes.clone() })
}
