//! Collection of garbage while the registry serves: settings, and the task of the replica that leads.
//!
//! The store collects (`quinistry_store`, `gc/online`); this module says when. A cycle begins when the
//! interval has passed since the last one began, inside the window of the day, on the replica that leads.
//! Other work of the leader that decides about content, such as retention, goes right before it.

pub(crate) mod bounds;
mod cycle;
mod hooks;
mod schedule;
mod settings;
mod task;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use self::bounds::shortened;
pub(crate) use self::cycle::leading;
pub use self::hooks::{CollectionHooks, LeaderWork};
pub use self::settings::CollectionSettings;
pub(crate) use self::task::run;
pub use self::window::{DailyWindow, DailyWindowError};
