//! `quinistry key`: adds, removes and lists the API keys of a registry.

mod lifetime;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::{Subcommand, ValueEnum, ValueHint};
use jiff::Timestamp;
use serde::Serialize;

use self::lifetime::Lifetime;
use super::configuration::Configuration;
use super::exit::UsageError;
use super::output::{self, OutputFormatArgs};
use super::private_file;
use crate::registry::auth::api_keys::{
    KeyRecord, MAX_FILE_BYTES, NewKey, add_record, check_file, remove_record,
};
use crate::registry::auth::htpasswd;
use crate::registry::auth::regular_file::{ReadFile, Rewrite};
use crate::registry::config::UsersConfig;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make an API key of a user, and print it once
    Add(AddArgs),
    /// Remove an API key, which ends at once
    Remove(RemoveArgs),
    /// List the API keys of a registry, without their secrets
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// Configuration file of the registry, which names the file of the keys
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// User whose rights the key has
    #[arg(long = "for", value_name = "NAME")]
    owner: String,
    /// Limit the key to repositories, such as 'team/**' or '!team/secret'; can be repeated [default: all]
    #[arg(long, value_name = "GLOB")]
    repositories: Vec<String>,
    /// Limit the key to a right; can be repeated [default: all that the user has]
    #[arg(long, value_enum, value_name = "RIGHT")]
    can: Vec<RightArg>,
    /// Time until the key expires, such as 90d, 12h or 30m [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Lifetime>,
    /// Remark that `key list` shows
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Right that a key is limited to.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RightArg {
    /// Read
    Pull,
    /// Add content and new tags, and read
    Push,
    /// Move existing tags
    Overwrite,
    /// Delete
    Delete,
    /// Everything
    Admin,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Identifier of the key, which `key list` shows
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    output: OutputFormatArgs,
}

/// Keys for programs.
#[derive(Debug, Serialize)]
struct KeyList<'a> {
    keys: Vec<ListedKey<'a>>,
}

#[derive(Debug, Serialize)]
struct ListedKey<'a> {
    id: &'a str,
    owner: &'a str,
    repositories: Option<&'a [String]>,
    can: Option<&'a [String]>,
    created: &'a str,
    expires: Option<&'a str>,
    /// True if the key is not valid any more.
    expired: bool,
    note: Option<&'a str>,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            KeyCommand::Add(args) => args.run(),
            KeyCommand::Remove(args) => args.run(),
            KeyCommand::List(args) => args.run(),
        }
    }
}

// === impl AddArgs ===

impl AddArgs {
    fn run(self) -> anyhow::Result<()> {
        let (users, file) = self.config.files()?;
        ensure_user(&users, &self.owner)?;
        let key = NewKey::random().map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let now = lifetime::now();
        let mut record = KeyRecord::new(&key, &self.owner, now);
        record.repositories = (!self.repositories.is_empty()).then_some(self.repositories);
        let names = self.can.iter().map(|right| right.as_str().to_owned()).collect();
        record.can = (!self.can.is_empty()).then_some(names);
        record.expires =
            self.expires.map(|lifetime| lifetime.end(now)).transpose()?.map(|end| end.to_string());
        record.note = self.note;
        if let Some(patterns) = &record.repositories
            && patterns.iter().all(|pattern| pattern.starts_with('!'))
        {
            let message = "--repositories names no repository; give a pattern without !, such as '**'";
            return Err(UsageError(message.into()).into());
        }
        change(&file, |former| {
            add_record(former, &record).map_err(|error| anyhow::anyhow!("{}", error.message))
        })?;
        output::complain(&format!(
            "added key {} of user {}, which is shown only now:",
            key.id,
            super::sanitize(&self.owner)
        ));
        output::print(format!("{}\n", key.text))
    }
}

/// Fails unless the password file has a user.
fn ensure_user(users: &UsersConfig, name: &str) -> anyhow::Result<()> {
    let htpasswd =
        users.htpasswd.as_ref().context("the configuration has no auth.htpasswd, and keys need users")?;
    let path = &htpasswd.path;
    let bytes = htpasswd::read(path)?;
    let (known, _) = htpasswd::parse(&bytes)
        .with_context(|| format!("failed to read password file {}", path.display()))?;
    ensure!(
        known.get(name).is_some(),
        "password file {} has no user {name}; add one with `quinistry user add`",
        path.display()
    );
    Ok(())
}

// === impl RightArg ===

impl RightArg {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

// === impl RemoveArgs ===

impl RemoveArgs {
    fn run(self) -> anyhow::Result<()> {
        let (_, file) = self.config.files()?;
        if !file.exists() {
            bail!("{} has no key {}", file.display(), self.id);
        }
        change(&file, |former| {
            remove_record(former, &self.id)
                .with_context(|| format!("{} has no key {}", file.display(), self.id))
        })?;
        output::print(format!("removed key {}\n", super::sanitize(&self.id)))
    }
}

// === impl ListArgs ===

impl ListArgs {
    fn run(self) -> anyhow::Result<()> {
        let (_, file) = self.config.files()?;
        let read = Rewrite::begin(&file).and_then(|rewrite| rewrite.read(MAX_FILE_BYTES));
        let read = read.with_context(|| format!("failed to read API keys {}", file.display()))?;
        let now = lifetime::now();
        let records = match &read {
            Some(read) => check_file(&file, read)?.0,
            None => Vec::new(),
        };
        output::print(if self.output.is_json() {
            output::document(&KeyList {
                keys: records.iter().map(|record| ListedKey::of(record, now)).collect(),
            })?
        } else {
            output::lines(records.iter().map(|record| text(record, now)))
        })
    }
}

impl<'a> ListedKey<'a> {
    fn of(record: &'a KeyRecord, now: Timestamp) -> Self {
        Self {
            id: &record.id,
            owner: &record.owner,
            repositories: record.repositories.as_deref(),
            can: record.can.as_deref(),
            created: &record.created,
            expires: record.expires.as_deref(),
            expired: is_expired(record, now),
            note: record.note.as_deref(),
        }
    }
}

/// Returns true if a key is not valid any more.
fn is_expired(key: &KeyRecord, now: Timestamp) -> bool {
    key.expires.as_deref().and_then(|end| end.parse::<Timestamp>().ok()).is_some_and(|end| end <= now)
}

/// Renders a key as a line.
fn text(key: &KeyRecord, now: Timestamp) -> String {
    let list =
        |items: &Option<Vec<String>>, all: &str| items.as_ref().map_or(all.into(), |items| items.join(","));
    let (can, repositories) = (list(&key.can, "all"), list(&key.repositories, "**"));
    let expires = match key.expires.as_deref() {
        None => "expires never".to_owned(),
        Some(end) if is_expired(key, now) => format!("expired {end}"),
        Some(end) => format!("expires {end}"),
    };
    let note = key.note.as_ref().map(|note| format!("  {note}")).unwrap_or_default();
    super::sanitize(&format!("{}  {}  {can}  {repositories}  {expires}{note}", key.id, key.owner))
}

// === impl ConfigArg ===

impl ConfigArg {
    /// Reads the configuration; returns the sources of users, and the path of the file of keys.
    fn files(&self) -> anyhow::Result<(UsersConfig, PathBuf)> {
        let configuration = Configuration::find(Some(self.config.clone())).context("no file is named")?;
        let (config, _) = configuration.read()?.accept()?;
        let Some(file) = config.users.keys_file.clone() else {
            bail!("{} names no file of keys; set quinistry.keys.file", self.config.display());
        };
        Ok((config.users, file))
    }
}

/// Replaces the text of a file of keys, which may not exist yet.
fn change(file: &std::path::Path, edit: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<()> {
    let failed = || format!("failed to change API keys {}", file.display());
    private_file::change(file, MAX_FILE_BYTES, failed, |former| {
        let former = former.unwrap_or(ReadFile { bytes: Vec::new(), mode: 0o600 });
        check_file(file, &former)?;
        edit(&former.bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_keys_are_marked() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let key = NewKey::random().unwrap();
        let mut record = KeyRecord::new(&key, "ci", now);
        assert!(text(&record, now).ends_with("expires never"));
        for (end, expected) in [("2026-01-31T12:00:00Z", true), ("2026-01-31T12:00:01Z", false)] {
            record.expires = Some(end.into());
            let word = if expected { "expired" } else { "expires" };
            assert!(text(&record, now).ends_with(&format!("  {word} {end}")), "{end}");
            assert_eq!(ListedKey::of(&record, now).expired, expected, "{end}");
        }
    }
}
