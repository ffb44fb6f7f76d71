//! Files with Kubernetes manifests, and what was found in them.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context as _, bail};

use super::manifests::{self, Found, ImageField};
use crate::cli::output::complain;
use crate::cli::{count, sanitize};
use crate::oci::ImageReference;

/// Length of the longest file of manifests: many times that of the largest charts, rendered.
const MAX_BYTES: u64 = 64 << 20;

/// Images of all files.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Images of pods.
    pub(super) images: Vec<ImageReference>,
    /// Fields that may name an image, and are not of a pod.
    pub(super) others: Vec<ImageField>,
}

// === impl Sources ===

impl Sources {
    /// Reads files, of which '-' is standard input, and a rendered chart, which is given by its name and
    /// text. Prints malformed pod images, and fails if there are any.
    pub(super) fn read(paths: &[String], rendered: Option<&(String, String)>) -> anyhow::Result<Self> {
        let mut sources = Self::default();
        let mut malformed = 0;
        for path in paths {
            let (name, text) = read(path)?;
            malformed += sources.add(find(name, &text)?);
        }
        if let Some((name, text)) = rendered {
            malformed += sources.add(find(name, text)?);
        }
        refuse_malformed(malformed)?;
        Ok(sources)
    }

    /// Adds the images of a text. Prints malformed pod images, and returns their number.
    fn add(&mut self, found: Found) -> usize {
        let malformed = complain_of_malformed(&found);
        self.images.extend(found.images);
        self.others.extend(found.others);
        malformed
    }
}

/// Reads a file, whose path '-' is standard input. Returns its name for messages, and its text.
pub(in crate::cli) fn read(path: &str) -> anyhow::Result<(&str, String)> {
    Ok(match path {
        "-" => ("standard input", text("standard input", io::stdin().lock())?),
        path => {
            let file = File::open(path).with_context(|| format!("failed to read {path}"))?;
            (path, text(path, file)?)
        }
    })
}

/// Finds the images in a text.
pub(in crate::cli) fn find(name: &str, text: &str) -> anyhow::Result<Found> {
    manifests::find(name, text).with_context(|| format!("failed to read {name}"))
}

/// Prints malformed pod images, and returns their number.
pub(in crate::cli) fn complain_of_malformed(found: &Found) -> usize {
    for field in &found.malformed {
        complain(&sanitize(&format!("malformed: {field}")));
    }
    found.malformed.len()
}

/// Fails if there are malformed pod images.
pub(in crate::cli) fn refuse_malformed(malformed: usize) -> anyhow::Result<()> {
    if malformed > 0 {
        let number = count(malformed, "image name");
        let are = if malformed == 1 { "is" } else { "are" };
        bail!("{number} {are} malformed (listed above); render templates first");
    }
    Ok(())
}

pub(super) fn text(name: &str, file: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("failed to read {name}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("failed to read {name}: it is longer than {} MiB; split it", MAX_BYTES >> 20);
    }
    String::from_utf8(bytes).with_context(|| format!("failed to read {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf_8_of_bounded_length() {
        assert_eq!(text("x", &b"a: b"[..]).unwrap(), "a: b");
        assert!(text("x", &b"\xff"[..]).is_err());
        let error = text("x", io::repeat(b' ')).unwrap_err();
        assert_eq!(error.to_string(), "failed to read x: it is longer than 64 MiB; split it");
    }
}
