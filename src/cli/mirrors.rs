//! `quinistry mirrors`: prints the files by which engines pull the images of other registries through one registry.

mod files;
mod place;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ValueEnum, ValueHint};
use serde::Serialize;

use self::files::{EngineFile, Mirror, files_of};
use self::place::{MirrorHost, Origin};
use super::exit::UsageError;
use super::output::{self, OutputFormatArgs};
use super::whole_file;
use crate::registry::auth::regular_file;

/// Registries whose images are mirrored unless the command line names others.
const USUAL_ORIGINS: [&str; 4] = ["docker.io", "ghcr.io", "quay.io", "registry.k8s.io"];

/// Longest file of authorities that is read, in bytes.
const MAX_AUTHORITY_BYTES: usize = 1024 * 1024;

/// Permissions of the files: engines that run without root read them.
const MODE: u32 = 0o644;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Engine whose files are printed
    #[arg(value_enum, value_name = "ENGINE")]
    engine: Engine,

    /// Registry that mirrors, as nodes reach it: HOST or HOST:PORT, with http:// before it if it has no TLS
    #[arg(value_name = "HOST", value_hint = ValueHint::Hostname)]
    host: MirrorHost,

    #[arg(value_name = "ORIGIN")]
    #[arg(
        help = "Registry that is mirrored, as ORIGIN[=PREFIX] if its images are not below its own name there \
                  [default: docker.io, and ghcr.io, quay.io and registry.k8s.io unless for docker]"
    )]
    origins: Vec<Origin>,

    /// Authority of HOST's certificate, in PEM; becomes a part of the files
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,

    /// Have engines ask HOST alone, also if it does not answer
    #[arg(long)]
    no_fallback: bool,

    /// Write the files below a folder, such as / of a node, instead of printing them
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath, conflicts_with = "output")]
    write: Option<PathBuf>,

    #[command(flatten)]
    output: OutputFormatArgs,
}

/// Engine that pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// Docker Engine: /etc/docker/daemon.json
    Docker,
    /// containerd: /etc/containerd/certs.d
    Containerd,
    /// podman, buildah and skopeo: /etc/containers/registries.conf.d
    Podman,
    /// CRI-O: /etc/containers/registries.conf.d
    Crio,
    /// k3s and RKE2: /etc/rancher/k3s/registries.yaml
    K3s,
    /// Talos: part of a machine configuration
    Talos,
}

/// Files for programs.
#[derive(Debug, Serialize)]
struct MirrorFiles<'a> {
    files: &'a [EngineFile],
    notes: &'a [String],
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { engine, host, origins, ca, no_fallback, write, output } = self;
        let origins = origins_for(engine, origins, no_fallback)?;
        if matches!(engine, Engine::Podman | Engine::Crio) && !host.is_in_references() {
            let message = format!(
                "{host} is not a host in image references: name it with its port, as {host}:443, or with its domain",
                host = host.host()
            );
            return Err(UsageError(message).into());
        }
        let authority = ca.as_deref().map(read_authority).transpose()?;
        if host.is_plain() && authority.is_some() {
            return Err(
                UsageError("--ca needs TLS, which http:// has not: leave out one of them".into()).into()
            );
        }
        let (files, notes) = files_of(engine, &Mirror { host, origins, authority, no_fallback });
        if output.is_json() {
            return output::print(output::document(&MirrorFiles { files: &files, notes: &notes })?);
        }
        let printed = match write {
            Some(folder) => write_all(&folder, &files)?,
            None => text(engine, &files),
        };
        for note in &notes {
            output::complain(&super::sanitize(&format!("note: {note}")));
        }
        output::print(printed)
    }
}

/// Returns the registries that are mirrored. Docker mirrors Docker Hub alone, and always falls back to it.
fn origins_for(engine: Engine, named: Vec<Origin>, no_fallback: bool) -> Result<Vec<Origin>, UsageError> {
    if engine != Engine::Docker {
        let usual = || USUAL_ORIGINS.map(|host| host.parse().expect("the names are hosts")).into();
        return Ok(if named.is_empty() { usual() } else { named });
    }
    if no_fallback {
        let message = "docker always falls back to Docker Hub: leave out --no-fallback, and pull HOST/docker.io/… \
                       by name where that must not be";
        return Err(UsageError(message.into()));
    }
    if let Some(other) = named.iter().find(|origin| !origin.is_docker_hub()) {
        let message = format!(
            "docker mirrors docker.io alone: leave out {other}, and pull its images by name, as HOST/{other}/…",
            other = other.host()
        );
        return Err(UsageError(message));
    }
    Ok(Vec::new())
}

/// Reads the certificates of an authority.
fn read_authority(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("failed to read authority {}", path.display());
    let bytes = regular_file::read(path, MAX_AUTHORITY_BYTES).with_context(failed)?.bytes;
    let text = String::from_utf8(bytes).with_context(failed)?;
    anyhow::ensure!(
        !text.contains("PRIVATE KEY-----"),
        "{} has a private key, which must not be copied to nodes: name a file with certificates alone",
        path.display()
    );
    anyhow::ensure!(
        text.contains("-----BEGIN CERTIFICATE-----"),
        "{} has no certificate in PEM",
        path.display()
    );
    Ok(text)
}

/// Returns the text of all files, each below its path. A single file stands alone, so that it can be redirected; the
/// path is a comment of it where the format has comments.
fn text(engine: Engine, files: &[EngineFile]) -> String {
    if let (Engine::Docker, [file]) = (engine, files) {
        return file.content.clone();
    }
    let mut text = String::new();
    for (number, file) in files.iter().enumerate() {
        let space = if number > 0 { "\n" } else { "" };
        write!(text, "{space}# {}\n{}", file.path, file.content).expect("writing to a string does not fail");
    }
    text
}

/// Writes all files below a folder, unless one exists with other content; returns the paths that were written. The last
/// one, which others may name, comes first: after a crash, what is there works, and another run writes the rest.
fn write_all(folder: &Path, files: &[EngineFile]) -> anyhow::Result<String> {
    let paths: Vec<PathBuf> =
        files.iter().map(|file| folder.join(file.path.trim_start_matches('/'))).collect();
    for (path, file) in paths.iter().zip(files) {
        match fs::read(path) {
            Ok(content) if content == file.content.as_bytes() => {}
            Ok(_) => anyhow::bail!(
                "{} exists with other content, and nothing was written; run the command without --write, and add \
                 what it prints to the file",
                path.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }
    place_all(&paths, files)?;
    Ok(output::lines(paths.iter().map(|path| path.display())))
}

/// Writes files, the last one first, once the content of all is on the disk.
fn place_all(paths: &[PathBuf], files: &[EngineFile]) -> anyhow::Result<()> {
    let failed = |path: &Path| format!("failed to write {}", path.display());
    let mut staged = Vec::new();
    for (path, file) in paths.iter().zip(files) {
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = whole_file::make_folder(folder)
            .and_then(|()| whole_file::stage(path, file.content.as_bytes(), MODE))
            .with_context(|| failed(path))?;
        staged.push(file);
    }
    for file in staged.into_iter().rev() {
        let path = file.path();
        file.place().with_context(|| failed(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(names: &[&str]) -> Vec<Origin> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn docker_mirrors_docker_hub_alone_and_falls_back() {
        assert_eq!(origins_for(Engine::Docker, Vec::new(), false).unwrap(), []);
        assert_eq!(origins_for(Engine::Docker, origins(&["docker.io"]), false).unwrap(), []);
        let error = origins_for(Engine::Docker, origins(&["docker.io", "ghcr.io"]), false).unwrap_err();
        assert!(error.to_string().contains("HOST/ghcr.io/"), "{error}");
        assert!(origins_for(Engine::Docker, Vec::new(), true).is_err());
    }

    #[test]
    fn a_file_with_another_content_is_left_alone_with_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str| EngineFile { path: path.into(), content: "new\n".into() };
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/c"), "old\n").unwrap();
        let error = write_all(folder.path(), &[file("/a"), file("/b/c")]).unwrap_err();
        assert!(error.to_string().contains("b/c exists with other content"), "{error}");
        assert!(!folder.path().join("a").exists());
        assert_eq!(fs::read(folder.path().join("b/c")).unwrap(), b"old\n");
        let written = write_all(folder.path(), &[file("/a"), file("/d/e")]).unwrap();
        assert_eq!(written.lines().count(), 2);
        assert_eq!(fs::read(folder.path().join("d/e")).unwrap(), b"new\n");
        write_all(folder.path(), &[file("/a")]).unwrap();
    }

    #[test]
    fn no_file_is_written_unless_all_can_be_and_the_last_one_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str| EngineFile { path: path.into(), content: "new\n".into() };
        fs::write(folder.path().join("file"), "").unwrap();
        let place = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
            place_all(&paths, &names.iter().map(|name| file(name)).collect::<Vec<_>>()).unwrap_err()
        };
        let written = |name: &str| folder.path().join(name).exists();
        let error = place(&["a", "b", "file/c"]);
        assert!(format!("{error:#}").contains("failed to write") && error.to_string().contains("file/c"));
        assert!(!written("a") && !written("b"));
        // A folder in the way of the first one is found only when that is placed.
        fs::create_dir(folder.path().join("e")).unwrap();
        place(&["e", "f"]);
        assert!(written("f"));
    }

    #[test]
    fn an_authority_is_a_regular_file_with_certificates_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let read = |text: &[u8]| {
            fs::write(&path, text).unwrap();
            read_authority(&path).map_err(|error| format!("{error:#}"))
        };
        let certificate = "-----BEGIN CERTIFICATE-----\n";
        assert_eq!(read(certificate.as_bytes()).unwrap(), certificate);
        let key = format!("{certificate}-----BEGIN PRIVATE KEY-----\n");
        for (text, problem) in [
            (key.as_bytes(), "has a private key"),
            (b"", "has no certificate in PEM"),
            (b"\xff", "failed to read authority"),
            (&vec![b' '; MAX_AUTHORITY_BYTES + 1], "is longer than"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let error = read_authority(Path::new("/dev/zero")).unwrap_err();
        assert!(format!("{error:#}").contains("is not a regular file"), "{error:#}");
    }
}
