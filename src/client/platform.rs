//! Choice of an image of an index by platform. Pure.
//!
//! The best match, as containerd finds it: the order of the index decides only between equals. A processor
//! takes images for its own variant and for lesser ones, never for greater ones, which would end in SIGILL.

use std::fmt;
use std::str::FromStr;

use quinistry_oci::{Descriptor, ImageIndex, Platform};

/// Wanted platform: `os[(version)]/architecture[/variant]`, with Go's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPattern {
    os: String,
    os_version: Option<String>,
    architecture: String,
    variant: Option<String>,
}

/// Platform with one name for each operating system and processor.
#[derive(Debug, PartialEq, Eq)]
struct NormalizedPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Part of an index to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The image for one platform.
    One(PlatformPattern),
    /// The index and all its images.
    All,
}

/// Reason why there is no image for a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text is not in the form of a platform.
    #[error("'{0}' is not a platform: want OS/ARCH[/VARIANT] such as linux/arm64, or 'all'")]
    Malformed(String),
    /// The index has images for other platforms only.
    #[error("no image for {wanted}; there are: {available}")]
    None {
        /// Platform that was wanted.
        wanted: String,
        /// Platforms of the index.
        available: String,
    },
}

// === impl PlatformPattern ===

impl PlatformPattern {
    /// Returns Linux on the processor that this program was built for.
    #[must_use]
    pub fn native() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".into(), os_version: None, architecture: architecture.into(), variant: None }
    }

    /// Ranks an image that fits; the greatest rank is the best. `None` if the image does not fit.
    fn rank(&self, platform: &Platform) -> Option<impl Ord + use<>> {
        let wanted = NormalizedPlatform::new(&self.os, &self.architecture, self.variant.as_deref());
        let offered =
            NormalizedPlatform::new(&platform.os, &platform.architecture, platform.variant.as_deref());
        let version = platform.os_version.as_deref().filter(|version| !version.is_empty());
        if let Some(wanted) = &self.os_version
            && !version.is_some_and(|version| is_version_of(version, wanted))
        {
            return None;
        }
        let variant = wanted.closeness(&offered)?;
        // A platform that demands no features precedes one whose features are not known to be there.
        let plain = platform.os_features.is_empty();
        Some((variant, plain, version.is_none(), version.map(numbers)))
    }

    /// Returns the best image of the index for this platform.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> Result<&'a Descriptor, PlatformError> {
        let ranked =
            index.manifests.iter().filter_map(|image| Some((self.rank(image.platform.as_ref()?)?, image)));
        // `max_by` would take the last of equals.
        if let Some((_, found)) = ranked.min_by(|(one, _), (other, _)| other.cmp(one)) {
            return Ok(found);
        }
        // A list of one image without a platform leaves no choice.
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

// === impl NormalizedPlatform ===

impl NormalizedPlatform {
    /// Normalizes alternative names of systems and processors, as containerd does.
    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let lower = |text: &str| text.to_ascii_lowercase();
        let variant = variant.map(lower).filter(|variant| !variant.is_empty());
        let os = match lower(os).as_str() {
            "macos" => "darwin".into(),
            other => other.to_owned(),
        };
        let (architecture, implied) = match lower(architecture).as_str() {
            "x86_64" | "x86-64" => ("amd64".into(), None),
            "i386" | "i486" | "i586" | "i686" | "x86" => ("386".into(), None),
            "aarch64" => ("arm64".into(), None),
            "armhf" => ("arm".into(), Some("v7")),
            "armel" => ("arm".into(), Some("v6")),
            other => (other.to_owned(), None),
        };
        let variant = implied.map(str::to_owned).or(variant);
        Self { os, architecture, variant }
    }

    /// Ranks the variant of an image by its closeness to this one. `None` if a processor of this variant does
    /// not run the image.
    fn closeness(&self, offered: &Self) -> Option<(bool, (u32, u32))> {
        if (&self.os, &self.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        let lacking = match self.architecture.as_str() {
            "amd64" => Some((1, 0)),
            "arm" => Some((7, 0)),
            "arm64" => Some((8, 0)),
            _ => None,
        };
        let level = |variant: &Option<String>| match variant {
            None => lacking,
            Some(variant) => lacking.and(level(variant)),
        };
        let is_same = self.variant == offered.variant;
        match (level(&self.variant), level(&offered.variant)) {
            (Some(wanted), Some(offered)) => (self.reach(offered) <= self.reach(wanted)
                && offered.0 <= wanted.0)
                .then_some((true, offered)),
            _ if is_same => Some((true, (0, 0))),
            // Variants that are not known to be greater: better than nothing if no variant was asked for.
            _ => (lacking.is_none() && self.variant.is_none()).then_some((false, (0, 0))),
        }
    }

    /// Makes levels comparable: Armv9.n has what Armv8.(n+5) has.
    fn reach(&self, (major, minor): (u32, u32)) -> (u32, u32) {
        match (self.architecture.as_str(), major) {
            ("arm64", 9) => (8, minor.saturating_add(5)),
            _ => (major, minor),
        }
    }
}

/// Parses the level of a variant: `v7`, `7` or `v8.2`.
fn level(variant: &str) -> Option<(u32, u32)> {
    let number = variant.strip_prefix('v').unwrap_or(variant);
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Returns true if a version begins with the numbers of another one.
fn is_version_of(version: &str, wanted: &str) -> bool {
    version.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Parses the numbers of a version, to compare them; a part that is not a number is the least.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or_default()).collect()
}

/// Formats a platform as `os/architecture[/variant]`.
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
        let (os, os_version) = match os.strip_suffix(')').and_then(|os| os.split_once('(')) {
            Some((os, version)) => (os, Some(version)),
            None => (os, None),
        };
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if ![os, architecture].into_iter().chain(variant).chain(os_version).all(is_word) {
            return Err(PlatformError::Malformed(text.into()));
        }
        let owned = |text: &str| text.to_ascii_lowercase();
        Ok(Self {
            os: owned(os),
            os_version: os_version.map(owned),
            architecture: owned(architecture),
            variant: variant.map(owned),
        })
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
        f.write_str(&self.os)?;
        if let Some(version) = &self.os_version {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
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
                os_version: p.os_version,
                os_features: Vec::new(),
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
        assert_eq!(choose("linux/arm", &platforms), Ok(3));
        assert_eq!(choose("linux/arm/v7", &platforms), Ok(3));
        assert_eq!(choose("linux/arm64/v8", &platforms), Ok(4));
        assert_eq!(choose("linux/amd64", &["?"]), Ok(0), "the only one");
    }

    #[test]
    fn the_best_variant_is_chosen_wherever_it_stands() {
        let amd64 = ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"];
        assert_eq!(choose("linux/amd64", &amd64), Ok(2));
        assert_eq!(choose("linux/amd64/v1", &amd64), Ok(2));
        assert_eq!(choose("linux/amd64/v2", &amd64), Ok(1));
        assert_eq!(choose("linux/amd64/v4", &amd64), Ok(0));
        assert_eq!(choose("linux/x86_64", &["linux/amd64/v1"]), Ok(0));
        assert!(choose("linux/amd64", &["linux/amd64/v2", "linux/amd64/v3"]).is_err());
        let arm = ["linux/arm/v5", "linux/arm64", "linux/arm/v6", "linux/arm/v8"];
        assert_eq!(choose("linux/arm/v7", &arm), Ok(2));
        assert_eq!(choose("linux/arm", &arm), Ok(2));
        assert_eq!(choose("linux/arm/v5", &arm), Ok(0));
        assert_eq!(choose("linux/armhf", &["linux/arm/7", "linux/arm/v6"]), Ok(0));
        assert_eq!(choose("linux/arm/v7", &["linux/arm/v6", "linux/arm"]), Ok(1));
        assert!(choose("linux/arm/v6", &["linux/arm", "linux/arm/v7"]).is_err());
        assert_eq!(choose("linux/arm64", &["linux/arm64/v9", "linux/arm64/v8"]), Ok(1));
        assert_eq!(choose("linux/arm64/v8", &["linux/arm64/v8.2", "linux/aarch64"]), Ok(1));
        assert_eq!(
            choose("linux/arm64/v9", &["linux/arm64/v8", "linux/arm64/v8.6", "linux/arm64/v8.5"]),
            Ok(2)
        );
        assert!(choose("linux/arm64", &["linux/arm/v8"]).is_err());
        assert_eq!(choose("linux/ppc64le", &["linux/ppc64le/power9", "linux/ppc64le"]), Ok(1));
        assert_eq!(choose("linux/ppc64le", &["linux/ppc64le/power9"]), Ok(0));
        assert!(choose("linux/ppc64le/power8", &["linux/ppc64le/power9"]).is_err());
    }

    #[test]
    fn of_equals_the_first_is_chosen() {
        assert_eq!(choose("linux/arm64/v8", &["linux/arm64", "linux/arm64/v8"]), Ok(0));
        assert_eq!(choose("linux/arm64", &["linux/arm64/v8", "linux/arm64"]), Ok(0));
    }

    #[test]
    fn versions_and_features_of_the_system_count() {
        let windows =
            ["windows(10.0.17763.1)/amd64", "windows(10.0.20348.9)/amd64", "windows(10.0.1776.1)/amd64"];
        assert_eq!(choose("windows(10.0.17763)/amd64", &windows), Ok(0));
        assert_eq!(choose("windows(10.0.1776)/amd64", &windows), Ok(2));
        assert_eq!(choose("windows/amd64", &windows), Ok(1), "the newest");
        assert!(choose("windows(10.0.2)/amd64", &windows).is_err());
        let mut index = index(&["linux/amd64", "linux/amd64"]);
        index.manifests[0].platform.as_mut().unwrap().os_features = vec!["erofs".into()];
        let wanted: PlatformPattern = "linux/amd64".parse().unwrap();
        assert!(std::ptr::eq(wanted.choose(&index).unwrap(), &raw const index.manifests[1]));
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
