//! Query parameters of a request, decoded once. Pure.

use std::borrow::Cow;

use quinistry_oci::{Algorithm, Digest};

use super::response::error::Error;

/// Undecoded query of a URI: the part behind the question mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn from_uri(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    #[cfg(test)]
    pub(crate) const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns all values of a parameter, in order.
    pub(crate) fn all(self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        form_urlencoded::parse(self.0.as_bytes()).filter(move |(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns the first value of a parameter.
    pub(crate) fn first(self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).next()
    }

    /// Returns the announced digest of a blob, if any. Two digests are refused as ambiguous.
    pub(crate) fn digest(self) -> Result<Option<Digest>, Error> {
        let mut values = self.all("digest");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => text.parse().map(Some).map_err(Error::Digest),
            (Some(_), Some(_)) => Err(Error::Digest(quinistry_oci::DigestError::Malformed)),
        }
    }

    /// Returns the announced digest algorithm of a blob, if any.
    pub(crate) fn algorithm(self) -> Result<Option<Algorithm>, Error> {
        match self.first("digest-algorithm").as_deref() {
            None => Ok(None),
            Some("sha256") => Ok(Some(Algorithm::Sha256)),
            Some("sha512") => Ok(Some(Algorithm::Sha512)),
            Some(_) => Err(Error::Digest(quinistry_oci::DigestError::Unsupported)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_decoded_once_and_given_once() {
        let hex = "a".repeat(64);
        let digest = |query: &str| Query::new(query).digest();
        assert_eq!(digest("x=1").unwrap(), None);
        assert_eq!(digest(&format!("digest=sha256%3A{hex}")).unwrap().unwrap().hex(), hex);
        for bad in [format!("digest=sha256%253A{hex}"), format!("digest=sha256:{hex}&digest=sha256:{hex}")] {
            assert!(digest(&bad).is_err(), "{bad}");
        }
    }
}
