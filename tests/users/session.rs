//! A client's user: a folder for what the client remembers, and a login or none.

use std::fs;
use std::process::Command;

use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::registry::{Login, Registry};
use crate::support::images::{Image, Packing};
use quinistry::layout::{Format, Target, Writer};

/// A session of a client with a registry.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) registry: &'a Registry,
    pub(crate) login: Option<Login>,
    folder: String,
}

impl<'a> Session<'a> {
    /// Begins a session with nothing remembered; `name` is that of its folder.
    pub(crate) fn new(
        machine: &'a Machine,
        registry: &'a Registry,
        login: Option<Login>,
        name: &str,
    ) -> Self {
        let folder = machine.path(&format!("session-{}-{name}", registry.host.replace(':', "-")));
        fs::create_dir(&folder).unwrap();
        // The common form of Docker's and podman's files. podman wants the file to exist.
        fs::write(format!("{folder}/config.json"), "{}").unwrap();
        Self { machine, registry, login, folder }
    }

    /// A path in the session's folder.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// File with remembered logins, in the form of Docker's `config.json`.
    pub(crate) fn logins(&self) -> String {
        self.path("config.json")
    }

    /// A command of the session's user.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(program);
        command.args(arguments);
        command
    }

    /// Runs a command with the session's folder as home.
    pub(crate) fn attempt(&self, command: Command) -> Attempt {
        self.attempt_with_input(command, "")
    }

    /// Runs a command that reads the password from standard input.
    pub(crate) fn attempt_with_password(&self, command: Command) -> Attempt {
        self.attempt_with_input(command, self.login.expect("a session with a login").password)
    }

    fn attempt_with_input(&self, mut command: Command, input: &str) -> Attempt {
        command.env("HOME", &self.folder).env("DOCKER_CONFIG", &self.folder);
        Attempt::run(command, input)
    }

    /// Reference of the tag `1` of a repository.
    pub(crate) fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.registry.host)
    }

    /// `user:password`, for clients that take it with each command.
    pub(crate) fn user_and_password(&self) -> Option<String> {
        self.login.map(|login| format!("{}:{}", login.user, login.password))
    }
}

/// An image that says `text`, named `localhost/test:1`.
pub(crate) fn image(text: &str) -> Image {
    Image::new("amd64", &[text, "the second layer"], Packing::Gzip)
}

/// Writes an image as an archive that engines load. Returns its path.
pub(crate) fn archive(machine: &Machine, image: &Image) -> String {
    write(machine.path("image.tar"), image, Format::Archive)
}

/// Writes an image as an OCI layout. Returns its path.
pub(crate) fn layout(machine: &Machine, image: &Image) -> String {
    write(machine.path("layout"), image, Format::OciLayout)
}

fn write(path: String, image: &Image, format: Format) -> String {
    let mut writer = Writer::create(Target::Path(path.clone().into()), format).unwrap();
    let saved = image.write_to(&mut writer, Some("localhost/test:1"));
    writer.finish(&[saved]).unwrap();
    path
}
