//! The probe of a store: what the store does is tried, because some accept a condition and ignore it.

mod checks;
mod kept;
mod report;

use uuid::Uuid;

use self::checks::Checks;
use crate::{ObjectError, ObjectErrorKind, Objects, StoreAbilities};

pub(crate) use self::kept::FORMAT;
pub use self::kept::KeptProbe;
pub use self::report::{Finding, ProbeReport};

/// Folder of the objects of probes. Those of a probe that was cut off stay, and harm nothing.
const FOLDER: &str = "docker/registry/v2/_quinistry/probe";

/// Extent of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeDepth {
    /// Small objects alone: some 30 requests, most of them side by side.
    Start,
    /// The parts of an upload as well, which are 11 MiB.
    Full,
}

/// Reasons why a store cannot be used by several writers, or at all.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// An object cannot be written, read, listed or removed.
    #[error("the bucket cannot be used; check its address, the credentials and their rights")]
    Unusable(#[source] ObjectError),
    /// The store ignores the condition of a creation.
    #[error(
        "the store ignores If-None-Match, so that two writers would overwrite each other; use a store that creates \
         objects atomically, or declare a single writer (quinistry.exclusive: true)"
    )]
    NoCreation,
    /// The store does not know the condition of a creation.
    #[error(
        "the store refuses If-None-Match, so that two writers would overwrite each other; use a store that creates \
         objects atomically, or declare a single writer (quinistry.exclusive: true)"
    )]
    RefusedCreation(#[source] ObjectError),
    /// A list lacks an object that was written, or has one that was removed.
    #[error("lists of the store lag behind its writes; use a store whose lists are consistent")]
    StaleLists,
    /// A list is not in the order of the bytes of the keys, or does not begin after a key.
    #[error("lists of the store are not in the order of their keys; use a store whose lists are sorted")]
    UnsortedLists,
    /// Other bytes were read than written.
    #[error("the store returned other bytes than were written; check what is between it and this machine")]
    OtherBytes,
}

/// Tries what a store can do, and removes what it has written. With `is_exclusive`, there is one writer, and the store
/// need not create objects atomically.
///
/// `client` sends the requests of signed URLs; without it they are not tried.
pub async fn probe(
    objects: &dyn Objects,
    client: Option<&reqwest::Client>,
    depth: ProbeDepth,
    is_exclusive: bool,
) -> Result<ProbeReport, ProbeError> {
    let folder = format!("{FOLDER}/{}", Uuid::new_v4());
    let checks = Checks { objects, client, folder: &folder };
    let outcome = run(&checks, depth, is_exclusive).await;
    let removed = checks.clean().await;
    let report = outcome?;
    removed.map_err(ProbeError::Unusable)?;
    Ok(report)
}

/// Tries what a store can do for a registry that writes nothing: whether signed URLs work. All other abilities count
/// as there. Writes nothing.
pub async fn probe_reading(objects: &dyn Objects, client: &reqwest::Client) -> ProbeReport {
    let folder = format!("{FOLDER}/{}", Uuid::new_v4());
    let checks = Checks { objects, client: Some(client), folder: &folder };
    let finding = Finding::new(report::SIGNS, checks.answers_urls().await.map(Some));
    let abilities = StoreAbilities { signs_urls: finding.is_able(), ..StoreAbilities::ALL };
    ProbeReport { abilities, findings: vec![finding] }
}

async fn run(checks: &Checks<'_>, depth: ProbeDepth, is_exclusive: bool) -> Result<ProbeReport, ProbeError> {
    checks.objects_are_kept().await?;
    let (creates, lists, (completes, copies_parts), unequal) =
        tokio::join!(checks.creates(), checks.lists(), checks.parts(), async {
            match depth {
                ProbeDepth::Start => Ok(None),
                ProbeDepth::Full => checks.takes_unequal_parts().await.map(Some),
            }
        },);
    let creates = match creates {
        Ok(false) if !is_exclusive => return Err(ProbeError::NoCreation),
        // An object without a condition could be written a moment ago.
        Err(error) if error.kind == ObjectErrorKind::Refused => {
            if !is_exclusive {
                return Err(ProbeError::RefusedCreation(error));
            }
            Err(error)
        }
        creates => Ok(creates.map_err(ProbeError::Unusable)?),
    };
    lists?;
    let (removes_if, removes_many, copies, signs, fences, verifies) = tokio::join!(
        checks.removes_if_unchanged(),
        checks.removes_many(),
        checks.copies(),
        checks.signs_urls(),
        checks.fences_removals(),
        checks.verifies_sha256(),
    );
    let mut findings = Vec::new();
    let mut note = |name, outcome: Result<Option<bool>, ObjectError>| {
        let finding = Finding::new(name, outcome);
        let is_able = finding.is_able();
        findings.push(finding);
        is_able
    };
    let abilities = StoreAbilities {
        creates: note(report::CREATES, creates.map(Some)),
        completes_if_absent: note(report::COMPLETES, completes.map(Some)),
        removes_if_unchanged: note(report::REMOVES_IF, removes_if.map(Some)),
        removes_many: note(report::REMOVES_MANY, removes_many.map(Some)),
        copies: note(report::COPIES, copies.map(Some)),
        copies_parts: note(report::COPIES_PARTS, copies_parts.map(Some)),
        takes_unequal_parts: note(report::UNEQUAL_PARTS, unequal),
        signs_urls: note(report::SIGNS, signs),
        fences_removals: note(report::FENCES, fences),
        verifies_sha256: note(report::VERIFIES, verifies),
    };
    Ok(ProbeReport { abilities, findings })
}
