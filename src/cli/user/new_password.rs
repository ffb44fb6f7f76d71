//! Password of a user: typed twice on the terminal, or read from standard input.

use std::io::{IsTerminal as _, stdin};

use anyhow::{Context as _, bail, ensure};

use crate::cli::password_stdin;
use crate::registry::auth::htpasswd::MAX_PASSWORD_BYTES;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct NewPasswordArgs {
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

// === impl NewPasswordArgs ===

impl NewPasswordArgs {
    /// Asks for a password, and checks it.
    pub(super) fn ask(self, user: &str) -> anyhow::Result<Password> {
        let password = if self.password_stdin {
            password_stdin::read()?
        } else {
            if !stdin().is_terminal() {
                bail!("there is no terminal to ask for a password; give --password-stdin");
            }
            let ask = |question: String| {
                rpassword::prompt_password(question).context("failed to read the password")
            };
            let password = ask(format!("New password of {}: ", crate::cli::sanitize(user)))?;
            ensure!(password == ask("Again: ".into())?, "the two passwords differ");
            password
        };
        check(&password)?;
        Ok(Password(password))
    }
}

/// Password that was checked. Not shown by `Debug`.
pub(super) struct Password(String);

impl Password {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Refuses passwords that bcrypt would cut off.
fn check(password: &str) -> anyhow::Result<()> {
    ensure!(!password.is_empty(), "a password is needed");
    ensure!(!password.contains('\0'), "the password has a NUL byte, which clients cannot send");
    let length = password.len();
    ensure!(
        length <= MAX_PASSWORD_BYTES,
        "the password has {length} bytes, and bcrypt looks at the first {MAX_PASSWORD_BYTES}; choose a shorter one"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_that_bcrypt_would_cut_off_are_refused() {
        assert!(check("secret").is_ok() && check(&"x".repeat(72)).is_ok());
        for password in ["", "a\0b", &"x".repeat(73)] {
            assert!(check(password).is_err(), "{password:?}");
        }
    }
}
