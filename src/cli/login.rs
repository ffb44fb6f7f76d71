//! `quinistry login`: checks credentials and stores them.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};

use anyhow::{Context as _, bail, ensure};

use super::output::complain;
use super::password_stdin;
use super::remote::ConnectionArgs;
use crate::client::{Credentials, DockerConfig, LoginCheck, Secret};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Registry, such as localhost:5000
    #[arg(value_parser = super::remote::host)]
    host: String,
    /// Log in as this user
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = DockerConfig::from_env()?;
        let client = self.connection.client()?;
        if !self.password_stdin && !stdin().is_terminal() {
            bail!("there is no terminal to ask for a password; give -u USER and --password-stdin");
        }
        let username = match self.username {
            Some(username) => username,
            None => ask_username()?,
        };
        let password = if self.password_stdin {
            password_stdin::read()?
        } else {
            rpassword::prompt_password("Password: ").context("failed to read the password")?
        };
        ensure!(!username.is_empty() && !password.is_empty(), "a user and a password are needed");
        ensure!(!username.contains(':'), "a user name cannot hold a colon");
        let password = Secret::new(password);
        let check = super::block_on(async {
            let credentials =
                Credentials::Password { username: username.clone(), password: password.clone() };
            let check = client.log_in(&self.host, credentials).await?;
            config.put(&self.host, &username, &password).await?;
            Ok(check)
        })?;
        super::print(match check {
            LoginCheck::Accepted => format!("logged in to {} as {username}\n", self.host),
            LoginCheck::NotAsked => {
                complain(&format!(
                    "warning: {0} answers without credentials, too, and may accept any password; quinistry logout {0} \
                     removes what was stored",
                    self.host
                ));
                format!("stored credentials of {username} for {}, unchecked\n", self.host)
            }
        })
    }
}

fn ask_username() -> anyhow::Result<String> {
    write!(stderr(), "Username: ").and_then(|()| stderr().flush()).context("failed to ask for a user")?;
    let mut line = String::new();
    stdin().read_line(&mut line).context("failed to read the user")?;
    Ok(line.trim().to_owned())
}
