//! XML in answers and requests.

use serde::de::DeserializeOwned;

use crate::transport::What;
use crate::{ObjectError, ObjectErrorKind};

/// Parses an answer.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], what: What<'_>) -> Result<T, ObjectError> {
    let invalid = |reason: String| {
        ObjectError::new(ObjectErrorKind::Unknown, format!("{what}: the answer is not valid XML: {reason}"))
    };
    let text = std::str::from_utf8(body).map_err(|error| invalid(error.to_string()))?;
    quick_xml::de::from_str(text).map_err(|error| invalid(quinistry_oci::escape::line(&error.to_string())))
}

/// Writes an element with a text, which is escaped.
pub(crate) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", quick_xml::escape::escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document {
        #[expect(dead_code, reason = "the presence of the element is what counts")]
        name: String,
    }

    #[test]
    fn row_225_what_is_no_xml_is_an_error_on_one_line() {
        for body in [&b"<html>\n<b>sign in"[..], b"", b"\xff", b"{}"] {
            let error = parse::<Document>(body, What("LIST", "a"));
            assert!(error.is_err_and(|error| !error.to_string().contains('\n')), "{body:?}");
        }
        assert_eq!(element("Key", "a<b&\"c\""), "<Key>a&lt;b&amp;&quot;c&quot;</Key>");
    }
}
