//! Lists of blobs.

use http::Method;

use super::Azure;
use super::answers::BlobsPage;
use crate::transport::What;
use crate::xml::parse;
use crate::{Listing, ListingQuery, ObjectError};

impl Azure {
    /// Returns a page of keys after a key. The store begins at a name, inclusive, or ignores it and begins with the
    /// first: names up to that key are passed over, page by page.
    pub(super) async fn list_blobs(&self, query: ListingQuery<'_>) -> Result<Listing, ObjectError> {
        let what = What("LIST", query.prefix);
        let limit = query.limit.clamp(1, 1000);
        // One more than the page, for the name to begin at.
        let (prefix, count) = (format!("{}{}", self.root, query.prefix), (limit + 1).to_string());
        let after = query.after.map(|after| format!("{}{after}", self.root));
        let (mut entries, mut marker) = (Vec::new(), String::new());
        loop {
            let mut pairs = vec![("restype", "container"), ("comp", "list"), ("prefix", &prefix[..])];
            pairs.push(("maxresults", &count[..]));
            match (&after, &marker[..]) {
                (Some(after), "") => pairs.push(("startFrom", &after[..])),
                (None, "") => {}
                (_, marker) => pairs.push(("marker", marker)),
            }
            let answer = self.send(self.request_for(Method::GET, "", &pairs), what).await?;
            let page: BlobsPage = parse(&answer.bytes(what).await?, what)?;
            for blob in &page.blobs.all {
                let is_after = after.as_ref().is_none_or(|after| blob.name > *after);
                if let Some(key) = blob.name.strip_prefix(&self.root).filter(|_| is_after) {
                    entries.push((key.to_owned(), blob.meta()));
                }
            }
            marker = page.next_marker;
            if entries.len() >= limit || marker.is_empty() {
                let is_truncated = entries.len() > limit || !marker.is_empty();
                entries.truncate(limit);
                return Ok(Listing { entries, is_truncated });
            }
        }
    }
}
