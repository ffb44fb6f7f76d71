//! Ends of uploads in parts. The store may still be at work when the answer is lost, and another process may have
//! ended the upload, so that its object is looked up before the end counts as failed.

use std::time::Duration;

use super::Shared;
use crate::{Condition, Multipart, ObjectError, ObjectErrorKind, Part};

/// Number of times that an object is looked up whose store did not answer: within some 20 seconds.
const LOOK_UPS: u32 = 10;

/// Pause after the first look-up, doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

const MAX_PAUSE: Duration = Duration::from_secs(5);

/// End of an upload in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// The store answered that the object consists of these parts, and told the version if it does so.
    Answered(Option<String>),
    /// The upload has ended, and an object of this length is there.
    Found(u64),
}

/// Ends an upload in an object. An object of another length than `length`, if that is given, is an older one.
pub(super) async fn complete(
    shared: &Shared,
    upload: Multipart<'_>,
    parts: &[Part],
    length: Option<u64>,
) -> Result<Completion, ObjectError> {
    match shared.objects.complete(upload, parts, Condition::Always).await {
        Ok(put) => Ok(Completion::Answered(put.version)),
        Err(error) => after(shared, upload.key, length, error).await,
    }
}

/// Looks for the object of an upload after an error, which may have come after the end of the upload.
pub(super) async fn after(
    shared: &Shared,
    key: &str,
    length: Option<u64>,
    error: ObjectError,
) -> Result<Completion, ObjectError> {
    let look_ups = match error.kind {
        ObjectErrorKind::NotFound => 1,
        ObjectErrorKind::Unknown => LOOK_UPS,
        _ => return Err(error),
    };
    let mut pause = FIRST_PAUSE;
    for left in (0..look_ups).rev() {
        match shared.objects.head(key).await {
            Ok(meta) if length.is_none_or(|length| meta.length == length) => {
                return Ok(Completion::Found(meta.length));
            }
            Ok(_) => {}
            Err(missing) if missing.kind == ObjectErrorKind::NotFound => {}
            // Whether the object is there is unknown, so that the upload must not count as lost.
            Err(unknown) => return Err(unknown),
        }
        if left > 0 {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
    Err(error)
}
