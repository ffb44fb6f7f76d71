//! `quinistry user`: adds, removes and lists the users of an htpasswd file.

mod new_password;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueHint};
use serde::Serialize;

use self::new_password::NewPasswordArgs;
use super::output::{self, OutputFormatArgs};
use super::private_file;
use crate::registry::auth::check_user_name;
use crate::registry::auth::htpasswd::{self, BcryptHash, MAX_FILE_BYTES, Users, remove_user, set_user};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add a user to a password file, or change the user's password
    Add(AddArgs),
    /// Remove a user from a password file
    Remove(RemoveArgs),
    /// List the users of a password file, and say which of them cannot log in
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
struct FileArg {
    /// Password file, which auth.htpasswd.path names
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    #[command(flatten)]
    file: FileArg,
    /// Name of the user
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    password: NewPasswordArgs,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    #[command(flatten)]
    file: FileArg,
    /// Name of the user
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    output: OutputFormatArgs,
}

/// Users for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserList<'a> {
    users: Vec<ListedUser<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedUser<'a> {
    name: &'a str,
    /// True if a password can match.
    can_log_in: bool,
    /// Cost of the bcrypt hash, if there is one.
    cost: Option<u32>,
    line: u32,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            UserCommand::Add(args) => args.run(),
            UserCommand::Remove(args) => args.run(),
            UserCommand::List(args) => args.run(),
        }
    }
}

// === impl AddArgs ===

impl AddArgs {
    fn run(self) -> anyhow::Result<()> {
        let Self { file: FileArg { file }, name, password } = self;
        check_user_name(&name)?;
        let password = password.ask(&name)?;
        let hash = BcryptHash::new(password.as_bytes()).map_err(|_| anyhow::anyhow!("no random numbers"))?;
        let mut was_there = false;
        change(&file, true, |text| {
            let (text, known) = set_user(text, &name, &hash);
            was_there = known;
            Ok(text)
        })?;
        let done = if was_there { "changed the password of user" } else { "added user" };
        output::print(format!("{done} {}\n", super::sanitize(&name)))
    }
}

// === impl RemoveArgs ===

impl RemoveArgs {
    fn run(self) -> anyhow::Result<()> {
        let Self { file: FileArg { file }, name } = self;
        change(&file, false, |text| {
            remove_user(text, &name)
                .with_context(|| format!("password file {} has no user {name}", file.display()))
        })?;
        output::print(format!("removed user {}\n", super::sanitize(&name)))
    }
}

// === impl ListArgs ===

impl ListArgs {
    fn run(self) -> anyhow::Result<()> {
        let file = self.file.file;
        let bytes = htpasswd::read(&file)?;
        let (users, findings) = htpasswd::parse(&bytes)
            .with_context(|| format!("failed to read password file {}", file.display()))?;
        let list = UserList::of(&users);
        if self.output.is_json() {
            return output::print(output::document(&list)?);
        }
        for finding in findings {
            output::complain(&super::sanitize(&format!(
                "{}:{}: {}",
                file.display(),
                finding.line,
                finding.message
            )));
        }
        output::print(output::lines(list.users.iter().map(|user| super::sanitize(user.name))))
    }
}

impl<'a> UserList<'a> {
    fn of(users: &'a Users) -> Self {
        let listed = users.sorted().into_iter().map(|(name, line)| ListedUser {
            name,
            can_log_in: line.hash.is_some(),
            cost: line.hash.as_ref().map(BcryptHash::cost),
            line: line.line,
        });
        Self { users: listed.collect() }
    }
}

/// Replaces the text of a password file, which is created if it may be missing.
fn change(
    file: &Path,
    may_be_missing: bool,
    edit: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    let failed = || format!("failed to change password file {}", file.display());
    if !may_be_missing && !file.exists() {
        bail!("password file {} does not exist; name the file of auth.htpasswd.path", file.display());
    }
    private_file::change(file, MAX_FILE_BYTES, failed, |former| {
        let former = former.map(|former| former.bytes).unwrap_or_default();
        // A file that a registry would not accept is not made worse.
        htpasswd::parse(&former).with_context(failed)?;
        let text = edit(&former)?;
        htpasswd::parse(&text).with_context(failed)?;
        Ok(text)
    })
}
