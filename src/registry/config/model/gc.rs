//! Collection of garbage while the registry serves, by the keys of `quinistry.gc`.

pub use quinistry_store::{DamagedManifests, Writers};

pub use crate::collection::{CollectionSettings, DailyWindow};
