//! Options of a cycle of collection, from flags and from the configuration of a registry.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::cli::configured::Configured;
use crate::cli::exit::UsageError;
use crate::cli::serve::settings;
use crate::registry::config::{CollectionSettings, Writers};
use crate::registry::{CollectionHooks, Settings};
use crate::store::DamagedManifests;

/// Options that were given by flags.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct GivenOptions {
    pub(in crate::cli) writers: Option<Writers>,
    pub(in crate::cli) grace: Option<Duration>,
    pub(in crate::cli) rate: Option<NonZeroU32>,
    pub(in crate::cli) trash: Option<Duration>,
    /// Greatest length of the filter of what is needed, in bytes.
    pub(in crate::cli) memory: Option<u64>,
    pub(in crate::cli) damaged: Option<DamagedManifests>,
    pub(in crate::cli) removes_untagged: bool,
    /// True if the cycle changes nothing, and needs neither the lead nor the right to write.
    pub(in crate::cli) is_preview: bool,
}

/// Options of a cycle: the settings by which a registry would make it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct CycleOptions {
    pub(super) settings: Settings,
    pub(super) is_preview: bool,
}

// === impl CycleOptions ===

impl CycleOptions {
    /// Returns the options of a cycle without a configuration.
    pub(in crate::cli) fn new(given: GivenOptions) -> Result<Self, UsageError> {
        let Some(writers) = given.writers else {
            return Err(UsageError(
                "a bucket needs --writers ours if only quinistry writes to it, or --writers foreign if distribution or \
                 another program does; a wrong answer loses content"
                    .into(),
            ));
        };
        let collection = Some(given.apply(CollectionSettings::of(writers))?);
        let settings = Settings { collection, ..Settings::default() };
        Ok(Self { settings, is_preview: given.is_preview })
    }

    /// Returns the options of a cycle as a registry with this configuration makes it. Flags win.
    pub(in crate::cli) fn configured(configured: &Configured, given: GivenOptions) -> anyhow::Result<Self> {
        let name = &configured.name;
        let collection = match (configured.config.collection, given.writers) {
            (Some(settings), Some(writers)) if settings.writers != writers => {
                let message =
                    format!("--writers differs from quinistry.gc.writers of {name}; omit --writers");
                return Err(UsageError(message).into());
            }
            (Some(settings), _) => settings,
            (None, Some(writers)) => CollectionSettings::of(writers),
            (None, None) => anyhow::bail!(
                "{name} does not say which programs write to the bucket; set quinistry.gc.writers to ours if only quinistry \
                 does, else to foreign"
            ),
        };
        let collection = Some(given.apply(collection)?);
        let settings = Settings { collection, ..settings::of_content(&configured.config)? };
        Ok(Self { settings, is_preview: given.is_preview })
    }

    /// Returns the work beside the cycle.
    pub(super) fn hooks(&self) -> CollectionHooks {
        if self.is_preview {
            return CollectionHooks::of_preview();
        }
        let hooks = CollectionHooks::default();
        // Where clients may not delete, retention does not either. Garbage may go, as with distribution's command.
        if self.settings.read_only { CollectionHooks { before: Vec::new(), ..hooks } } else { hooks }
    }
}

// === impl GivenOptions ===

impl GivenOptions {
    fn apply(&self, settings: CollectionSettings) -> Result<CollectionSettings, UsageError> {
        let writers = settings.writers;
        let least = CollectionSettings::min_grace(writers);
        if self.grace.is_some_and(|grace| grace < least) {
            return Err(UsageError(format!(
                "--grace of a bucket must not be less than {} minutes: pushes may rely for that long on content that they \
                 found",
                least.as_secs().div_ceil(60)
            )));
        }
        if writers == Writers::Foreign && self.trash.is_some_and(|trash| trash < least) {
            return Err(UsageError(format!(
                "--trash must not be less than {} minutes where other programs write: they may rely for that long on \
                 content that they found",
                least.as_secs().div_ceil(60)
            )));
        }
        Ok(CollectionSettings {
            grace: self.grace.unwrap_or(settings.grace),
            rate: self.rate.unwrap_or(settings.rate),
            trash: self.trash.map_or(settings.trash, |trash| (!trash.is_zero()).then_some(trash)),
            memory: self.memory.unwrap_or(settings.memory),
            damaged: self.damaged.unwrap_or(settings.damaged),
            removes_untagged: self.removes_untagged,
            dry_run: settings.dry_run || self.is_preview,
            ..settings
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_settings_and_bounds_over_flags() {
        let minutes = Duration::from_mins;
        let given = GivenOptions {
            rate: NonZeroU32::new(7),
            trash: Some(minutes(90)),
            memory: Some(16 << 20),
            ..GivenOptions::default()
        };
        let ours = given.apply(CollectionSettings::of(Writers::Ours)).unwrap();
        let changed = (ours.rate.get(), ours.trash, ours.memory, ours.grace);
        assert_eq!(changed, (7, Some(minutes(90)), 16 << 20, minutes(720)));
        // Beside other programs, the trash may not be that short.
        let error = given.apply(CollectionSettings::of(Writers::Foreign)).unwrap_err();
        assert!(error.to_string().contains("--trash must not be less than 1440 minutes"), "{error}");
        let given = GivenOptions { grace: Some(minutes(9)), ..GivenOptions::default() };
        let error = given.apply(CollectionSettings::of(Writers::Ours)).unwrap_err();
        assert!(error.to_string().contains("not be less than 10 minutes"), "{error}");
        let given = GivenOptions { trash: Some(Duration::ZERO), ..GivenOptions::default() };
        let settings =
            CollectionSettings { trash: Some(minutes(9)), ..CollectionSettings::of(Writers::Ours) };
        assert_eq!(given.apply(settings).unwrap().trash, None);
    }
}
