//! Accepted configuration of a command that works on the storage of a registry.

use std::path::PathBuf;

use super::configuration::Configuration;
use super::exit::UsageError;
use super::storage::folder_or_bucket::FolderOrBucket;
use crate::registry::TagPolicies;
use crate::registry::config::Config;

/// Configuration that was accepted, with its name for errors.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) config: Config,
    pub(super) name: String,
}

impl Configured {
    /// Reads the configuration that a command cannot do without. Prints the findings and returns `None` if the
    /// configuration is not accepted.
    pub(super) fn find(command: &str, file: Option<PathBuf>) -> anyhow::Result<Option<Self>> {
        let configuration = Configuration::find(file).ok_or_else(|| {
            UsageError(format!("{command} needs --config CONFIG, or REGISTRY_CONFIGURATION_PATH to name it"))
        })?;
        Self::read(&configuration)
    }

    /// Reads a configuration. Prints the findings and returns `None` if it is not accepted.
    pub(super) fn read(configuration: &Configuration) -> anyhow::Result<Option<Self>> {
        match configuration.read()?.check_files().accept() {
            Ok((config, _)) => Ok(Some(Self { config, name: configuration.to_string() })),
            Err(refused) => {
                refused.report();
                Ok(None)
            }
        }
    }

    /// Returns the rules about immutable and protected tags.
    pub(super) fn tag_policies(&self) -> anyhow::Result<TagPolicies> {
        let limits = &self.config.limits;
        Ok(TagPolicies::new(&limits.immutable_tags, &limits.protected_tags)?)
    }

    /// Returns the storage that the command line names, or else that of the configuration.
    pub(super) fn place(&self, named: Option<FolderOrBucket>) -> anyhow::Result<FolderOrBucket> {
        named.map_or_else(|| FolderOrBucket::of_config(&self.config.storage, &self.name), Ok)
    }
}
