//! Removal of many objects by one request.

use std::fmt::Write as _;

use quinistry_bucket::{ObjectError, Objects as _};

use super::Store;
use super::answer::Answer;
use super::request::Request;
use super::xml;

impl Store {
    pub(super) async fn delete_many(&self, request: &Request) -> Result<Answer, ObjectError> {
        let document = String::from_utf8_lossy(&request.body);
        let keys = keys(request);
        if keys.is_empty() {
            return Ok(Answer::error(400, "MalformedXML", "no keys"));
        }
        self.mem.delete_many(&keys).await?;
        let mut text = String::from("<DeleteResult>");
        if xml::text(&document, "Quiet").as_deref() != Some("true") {
            for key in &keys {
                write!(text, "<Deleted><Key>{}</Key></Deleted>", xml::escape(key)).unwrap();
            }
        }
        Ok(Answer::xml(200, &(text + "</DeleteResult>")))
    }
}

/// Returns the keys that a removal of many objects names.
pub(super) fn keys(request: &Request) -> Vec<String> {
    let document = String::from_utf8_lossy(&request.body);
    xml::elements(&document, "Object").iter().filter_map(|object| xml::text(object, "Key")).collect()
}
