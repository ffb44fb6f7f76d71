//! A registry's certificates in `certs.d/HOST[:PORT]/`, as docker, podman and skopeo read them.
//!
//! `*.crt` are authorities; `NAME.cert` with `NAME.key` is a client's certificate. Of several folders for one
//! registry the first that exists counts, as with podman.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::material::{self, Material};
use super::{ClientCertificate, ClientError};
use crate::Cause;

/// Files of one registry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HostFolder {
    authorities: Vec<PathBuf>,
    identities: Vec<ClientCertificate>,
}

/// Returns the folders of docker and podman, those of the user first.
#[must_use]
pub fn host_folders(home: Option<&Path>) -> Vec<PathBuf> {
    let own = home.map(|home| home.join(".config")).into_iter();
    let own = own.flat_map(|config| ["containers/certs.d", "docker/certs.d"].map(|path| config.join(path)));
    own.chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
}

// === impl HostFolder ===

impl HostFolder {
    /// Lists the files of a registry, `None` if no folder has any. `host` must have been parsed: it becomes part
    /// of a path.
    pub(crate) fn find(folders: &[PathBuf], host: &str) -> Result<Option<Self>, ClientError> {
        for folder in folders {
            let path = folder.join(host);
            match fs::read_dir(&path) {
                Ok(entries) => {
                    let names: io::Result<Vec<PathBuf>> =
                        entries.map(|entry| entry.map(|entry| entry.path())).collect();
                    let found = Self::sort(names.map_err(|error| unreadable(&path, &error))?)?;
                    return Ok((found != Self::default()).then_some(found));
                }
                // A folder that the user may not read is another user's.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::NotADirectory
                            | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok(None)
    }

    /// Sorts files by their extensions. A certificate without its key, or a key alone, is an error, as docker
    /// has it: the registry would otherwise refuse a client that seems to have a certificate.
    fn sort(mut paths: Vec<PathBuf>) -> Result<Self, ClientError> {
        paths.sort_unstable();
        let mut found = Self::default();
        let is = |path: &Path, kind: &str| path.extension().is_some_and(|extension| extension == kind);
        for path in &paths {
            if is(path, "crt") {
                found.authorities.push(path.clone());
            } else if is(path, "cert") {
                let key = path.with_extension("key");
                if !paths.contains(&key) {
                    return Err(material::failed(path, format!("its key {} is missing", key.display())));
                }
                found.identities.push(ClientCertificate { certificate: path.clone(), key });
            } else if is(path, "key") && !paths.contains(&path.with_extension("cert")) {
                let certificate = path.with_extension("cert");
                let reason =
                    format!("its certificate {} is missing (authorities end in .crt)", certificate.display());
                return Err(material::failed(path, reason));
            }
        }
        Ok(found)
    }

    /// Reads the files. Of several clients' certificates the first counts.
    pub(super) fn add_to(&self, material: &mut Material) -> Result<(), ClientError> {
        self.authorities.iter().try_for_each(|path| material.add_authorities(path))?;
        self.identities.iter().try_for_each(|identity| material.set_identity(identity))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ClientError {
    material::failed(path, Cause::of(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn the_first_folder_of_a_registry_counts() {
        let folder = folder_with(&["b/reg:5000/x.crt", "c/reg:5000/y.crt", "c/reg/z.crt", "c/file"]);
        let folders = ["a", "b", "c"].map(|name| folder.path().join(name));
        let found = |host: &str| HostFolder::find(&folders, host).unwrap();
        assert_eq!(found("reg:5000").unwrap().authorities, [folder.path().join("b/reg:5000/x.crt")]);
        assert_eq!(found("reg").unwrap().authorities, [folder.path().join("c/reg/z.crt")]);
        assert_eq!(found("other"), None);
        assert_eq!(found("file"), None, "a file is not a folder");
    }

    #[test]
    fn a_certificate_and_its_key_come_together() {
        let folder = folder_with(&["a/client.cert", "a/client.key", "a/notes.txt", "b/x.cert", "c/x.key"]);
        let folders = [folder.path().to_owned()];
        let path = |name: &str| folder.path().join(name);
        let expected = ClientCertificate { certificate: path("a/client.cert"), key: path("a/client.key") };
        assert_eq!(HostFolder::find(&folders, "a").unwrap().unwrap().identities, [expected]);
        for (host, file) in [("b", "b/x.key is missing"), ("c", "c/x.cert is missing")] {
            let ClientError::Certificates { source, .. } = HostFolder::find(&folders, host).unwrap_err()
            else {
                panic!("another error")
            };
            assert!(source.to_string().contains(file), "{source}");
        }
    }

    #[test]
    fn folders_of_the_user_come_first() {
        let folders = host_folders(Some(Path::new("/home/u")));
        assert_eq!(folders[0], Path::new("/home/u/.config/containers/certs.d"));
        assert_eq!(folders.last().unwrap(), Path::new("/etc/docker/certs.d"));
        assert_eq!(host_folders(None).len(), 2);
    }
}
