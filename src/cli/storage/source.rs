//! Arguments that name the storage which a command works on: a place, or the configuration of a registry.

use std::path::PathBuf;

use super::folder_or_bucket::FolderOrBucket;
use crate::cli::configuration::Configuration;
use crate::cli::exit::UsageError;

/// Storage of a command, and the configuration of its registry.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(in crate::cli) struct StorageSource {
    #[arg(
        value_name = "STORAGE",
        value_hint = clap::ValueHint::DirPath,
        help = "Folder of `serve --storage`, or distribution's root directory; or a bucket: s3://BUCKET/PREFIX, \
                gs://BUCKET/PREFIX or az://ACCOUNT/CONTAINER/PREFIX [default: the storage of the configuration]"
    )]
    pub(in crate::cli) place: Option<FolderOrBucket>,

    #[arg(long, value_name = "CONFIG", value_hint = clap::ValueHint::FilePath)]
    #[arg(help = "Configuration file of the registry [default: $REGISTRY_CONFIGURATION_PATH]")]
    pub(in crate::cli) config: Option<PathBuf>,
}

// === impl StorageSource ===

impl StorageSource {
    /// Returns the storage of a command that needs nothing else of a configuration. Prints the findings and returns
    /// `None` if the configuration names no valid storage.
    pub(in crate::cli) fn find(&self, command: &str) -> anyhow::Result<Option<FolderOrBucket>> {
        if self.place.is_some() && self.config.is_some() {
            let message = format!("{command} takes either STORAGE or --config, which names a storage, too");
            return Err(UsageError(message).into());
        }
        self.storage(self.configuration(command)?.as_ref())
    }

    /// Returns the configuration: that of `--config`; or that of the environment, if no storage is named.
    pub(in crate::cli) fn configuration(&self, command: &str) -> Result<Option<Configuration>, UsageError> {
        if self.place.is_some() && self.config.is_none() {
            return Ok(None);
        }
        Configuration::find(self.config.clone()).map(Some).ok_or_else(|| {
            UsageError(format!(
                "{command} needs a folder, the URL of a bucket, or --config CONFIG; REGISTRY_CONFIGURATION_PATH can name a \
                 configuration, too"
            ))
        })
    }

    /// Returns the named storage, or else that of the configuration, whose other parts may have errors. Prints the
    /// findings and returns `None` if the configuration names no valid storage.
    pub(in crate::cli) fn storage(
        &self,
        configuration: Option<&Configuration>,
    ) -> anyhow::Result<Option<FolderOrBucket>> {
        let configuration = match (&self.place, configuration) {
            (Some(place), _) => return Ok(Some(place.clone())),
            (None, None) => return Ok(None),
            (None, Some(configuration)) => configuration,
        };
        match configuration.read()?.accept_storage() {
            Ok((storage, remarks)) => {
                remarks.log();
                FolderOrBucket::of_config(&storage, &configuration.to_string()).map(Some)
            }
            Err(refused) => {
                refused.report();
                Ok(None)
            }
        }
    }
}
