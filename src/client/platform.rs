//! Which image of an index is meant. Pure.

use std::fmt;
use std::str::FromStr;

use crate::oci::{Descriptor, ImageIndex, Platform};

/// `os/architecture[/variant]`, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPattern {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// What to take of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The image for one platform.
    One(PlatformPattern),
    /// The index and all its images.
    All,
}

/// Why there is no image for a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not in the form of a platform.
    #[error("'{0}' is not a platform: want OS/ARCH[/VARIANT] such as linux/arm64, or 'all'")]
    Malformed(String),
    /// The index has others.
    #[error("no image for {wanted}; there are: {available}")]
    None {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: String,
    },
}

// === impl PlatformPattern ===

impl PlatformPattern {
    /// Linux on the processor that this program was built for.
    #[must_use]
    pub fn native() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    fn fits(&self, platform: &Platform) -> bool {
        platform.os == self.os
            && platform.architecture == self.architecture
            && (self.variant.is_none() || platform.variant == self.variant || self.implied(platform))
    }

    /// `arm64` is `arm64/v8`.
    fn implied(&self, platform: &Platform) -> bool {
        self.architecture == "arm64" && self.variant.as_deref() == Some("v8") && platform.variant.is_none()
    }

    /// The first image of the index for this platform.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> Result<&'a Descriptor, PlatformError> {
        let fitting =
            |image: &&Descriptor| image.platform.as_ref().is_some_and(|platform| self.fits(platform));
        if let Some(found) = index.manifests.iter().find(fitting) {
            return Ok(found);
        }
        // A list of one that does not say what it is for leaves no choice.
        if let [only] = index.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let mut available: Vec<_> =
            index.manifests.iter().filter_map(|image| Some(describe(image.platform.as_ref()?))).collect();
        available.retain(|platform| platform != "unknown/unknown");
        available.dedup();
        let available = if available.is_empty() { "none".into() } else { available.join(", ") };
        Err(PlatformError::None { wanted: self.to_string(), available })
    }
}

/// `os/architecture[/variant]`
pub(super) fn describe(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

impl FromStr for PlatformPattern {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError::Malformed(text.into())),
        };
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if ![os, architecture].into_iter().chain(variant).all(is_word) {
            return Err(PlatformError::Malformed(text.into()));
        }
        let owned = |text: &str| text.to_ascii_lowercase();
        Ok(Self { os: owned(os), architecture: owned(architecture), variant: variant.map(owned) })
    }
}

impl FromStr for Selection {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        if text == "all" { Ok(Self::All) } else { Ok(Self::One(text.parse()?)) }
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::One(PlatformPattern::native())
    }
}

impl fmt::Display for PlatformPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> ImageIndex {
        let manifests = platforms.iter().map(|text| {
            let platform = text.parse::<PlatformPattern>().ok().map(|p| Platform {
                architecture: p.architecture,
                os: p.os,
                variant: p.variant,
            });
            Descriptor { platform, ..Descriptor::of("x", text.as_bytes()) }
        });
        ImageIndex { manifests: manifests.collect(), media_type: None, schema_version: 2 }
    }

    fn choose(wanted: &str, platforms: &[&str]) -> Result<usize, PlatformError> {
        let index = index(platforms);
        let wanted: PlatformPattern = wanted.parse()?;
        let chosen = wanted.choose(&index)?;
        Ok(index.manifests.iter().position(|image| image == chosen).unwrap())
    }

    #[test]
    fn the_fitting_image_is_chosen() {
        let platforms = ["unknown/unknown", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"];
        assert_eq!(choose("linux/amd64", &platforms), Ok(1));
        assert_eq!(choose("linux/arm", &platforms), Ok(2));
        assert_eq!(choose("linux/arm/v7", &platforms), Ok(3));
        assert_eq!(choose("linux/arm64/v8", &platforms), Ok(4));
        assert_eq!(choose("linux/amd64", &["?"]), Ok(0), "the only one");
    }

    #[test]
    fn if_none_fits_it_is_said_which_there_are() {
        let error = choose("linux/s390x", &["unknown/unknown", "linux/amd64", "linux/arm/v7"]).unwrap_err();
        assert_eq!(error.to_string(), "no image for linux/s390x; there are: linux/amd64, linux/arm/v7");
        assert!(choose("linux/amd64", &[]).unwrap_err().to_string().ends_with("there are: none"));
    }

    #[test]
    fn platforms_have_two_or_three_parts() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "a/b\u{1b}"] {
            assert!(matches!(text.parse::<Selection>(), Err(PlatformError::Malformed(_))), "{text}");
        }
        assert_eq!("all".parse(), Ok(Selection::All));
        assert_eq!("Linux/ARM64".parse::<PlatformPattern>().unwrap().to_string(), "linux/arm64");
    }
}
