//! Part of an index that a command takes. Pure.

use std::str::FromStr;

use quinistry_oci::PlatformPattern;

/// Part of an index to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The image for one platform.
    One(PlatformPattern),
    /// The index and all its images.
    All,
}

/// Error of a text that is not a [`Selection`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a platform: want OS/ARCH[/VARIANT] such as linux/arm64, or 'all'")]
pub struct InvalidSelection(String);

impl FromStr for Selection {
    type Err = InvalidSelection;

    fn from_str(text: &str) -> Result<Self, InvalidSelection> {
        match text {
            "all" => Ok(Self::All),
            text => text.parse().map(Self::One).map_err(|_| InvalidSelection(text.to_owned())),
        }
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::One(PlatformPattern::native())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_a_platform_or_all() {
        assert_eq!("all".parse(), Ok(Selection::All));
        assert!(matches!("linux/arm64".parse(), Ok(Selection::One(_))));
        assert_eq!("linux".parse::<Selection>(), Err(InvalidSelection("linux".into())));
    }
}
