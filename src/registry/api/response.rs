//! Responses: content with its headers and ranges, bodies that are read as they are sent, and errors.

pub(crate) mod body;
pub(crate) mod error;
pub(crate) mod extra_headers;
mod range;
pub(crate) mod served_content;
mod verified_body;
