//! Patterns of platforms: the image of an index that runs on one, and all images that are for one. Pure.
//!
//! Machines run the best match, as containerd finds it: the order of the index decides only between equals. A processor
//! takes images for its own variant and for lesser ones, never for greater ones, which would end in SIGILL.

use std::fmt;
use std::str::FromStr;

use crate::{Descriptor, ImageIndex, Platform};

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

/// Error of a text that is not a [`PlatformPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a platform, such as linux/amd64 or linux/arm/v7")]
pub struct InvalidPlatform;

/// Error of an index that has images for other platforms only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no image for {wanted}; there are: {available}")]
pub struct PlatformNotFound {
    /// Platform that was wanted.
    pub wanted: String,
    /// Platforms of the index.
    pub available: String,
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
        if !self.has_version(platform) {
            return None;
        }
        let variant = wanted.closeness(&offered)?;
        // A platform that demands no features precedes one whose features are not known to be there.
        let plain = platform.os_features.is_empty();
        Some((variant, plain, version.is_none(), version.map(numbers)))
    }

    /// Returns true if an image is for this platform, whatever else a processor of it could run. A pattern without a
    /// variant takes all variants, and one without a version of the system all versions.
    #[must_use]
    pub fn covers(&self, platform: &Platform) -> bool {
        let wanted = NormalizedPlatform::new(&self.os, &self.architecture, self.variant.as_deref());
        let offered =
            NormalizedPlatform::new(&platform.os, &platform.architecture, platform.variant.as_deref());
        self.has_version(platform)
            && (&wanted.os, &wanted.architecture) == (&offered.os, &offered.architecture)
            && (wanted.variant.is_none() || wanted.is_same_variant(&offered))
    }

    /// Returns true if a platform has the version of the system, if one is wanted.
    fn has_version(&self, platform: &Platform) -> bool {
        let version = platform.os_version.as_deref();
        self.os_version
            .as_deref()
            .is_none_or(|wanted| version.is_some_and(|version| is_version_of(version, wanted)))
    }

    /// Returns the best image of the index for this platform.
    pub fn choose<'a>(&self, index: &'a ImageIndex) -> Result<&'a Descriptor, PlatformNotFound> {
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
        Err(PlatformNotFound { wanted: self.to_string(), available })
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
        let is_same = self.variant == offered.variant;
        match (self.level(), offered.level()) {
            (Some(wanted), Some(offered)) => (self.reach(offered) <= self.reach(wanted)
                && offered.0 <= wanted.0)
                .then_some((true, offered)),
            _ if is_same => Some((true, (0, 0))),
            // Variants that are not known to be greater: better than nothing if no variant was asked for.
            _ => (self.usual_level().is_none() && self.variant.is_none()).then_some((false, (0, 0))),
        }
    }

    /// Returns true if the variants of two platforms of one architecture are the same.
    fn is_same_variant(&self, other: &Self) -> bool {
        match (self.level(), other.level()) {
            (Some(own), Some(other)) => own == other,
            _ => self.variant == other.variant,
        }
    }

    /// Returns the level of the variant, if it is known.
    fn level(&self) -> Option<(u32, u32)> {
        let usual = self.usual_level();
        match &self.variant {
            None => usual,
            Some(variant) => usual.and(level(variant)),
        }
    }

    /// Returns the level that a platform without a variant has; `None` if the architecture has no known levels.
    fn usual_level(&self) -> Option<(u32, u32)> {
        match self.architecture.as_str() {
            "amd64" => Some((1, 0)),
            "arm" => Some((7, 0)),
            "arm64" => Some((8, 0)),
            _ => None,
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
fn describe(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

impl FromStr for PlatformPattern {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(InvalidPlatform),
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
            return Err(InvalidPlatform);
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

    fn choose(wanted: &str, platforms: &[&str]) -> Result<usize, PlatformNotFound> {
        let index = index(platforms);
        let wanted: PlatformPattern = wanted.parse().unwrap();
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
    fn a_pattern_covers_its_own_variant_or_all() {
        let covers = |wanted: &str, offered: &str| {
            let index = index(&[offered]);
            wanted.parse::<PlatformPattern>().unwrap().covers(index.manifests[0].platform.as_ref().unwrap())
        };
        for (wanted, offered) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64", "linux/amd64/v3"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/arm", "linux/arm/v6"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64", "linux/arm64/v9"),
            ("linux/ppc64le", "linux/ppc64le/power9"),
            ("windows/amd64", "windows(10.0.17763.1)/amd64"),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763.1)/amd64"),
        ] {
            assert!(covers(wanted, offered), "{wanted} {offered}");
        }
        for (wanted, offered) in [
            ("linux/arm/v7", "linux/arm/v6"),
            ("linux/arm64/v8", "linux/arm64/v9"),
            ("linux/amd64", "linux/arm64"),
            ("linux/amd64", "windows/amd64"),
            ("linux/ppc64le/power8", "linux/ppc64le"),
            ("windows(10.0.1776)/amd64", "windows(10.0.17763.1)/amd64"),
            ("linux/amd64", "unknown/unknown"),
        ] {
            assert!(!covers(wanted, offered), "{wanted} {offered}");
        }
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
            assert_eq!(text.parse::<PlatformPattern>(), Err(InvalidPlatform), "{text}");
        }
        assert_eq!("Linux/ARM64".parse::<PlatformPattern>().unwrap().to_string(), "linux/arm64");
    }
}
