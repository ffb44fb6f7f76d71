//! Checks of the keys beneath `_quinistry`, which distribution does not read.

use std::time::Duration;

use quinistry_oci::{Algorithm, Digest, RepositoryName};
use serde::Deserialize;

use super::reading::{Read, digest_in, quoted};
use super::repository::Repository;
use super::walk::Found;
use super::{Finding, FindingKind, Fsck};
use crate::intents::Intent;
use crate::layout::blob;
use crate::layout::kinds::OwnPart;
use crate::shared::FORMAT;
use crate::{Key, StoreError, layout};

/// Age from which the heartbeat of a replica is left of one that stopped.
const REPLICA_AGE: Duration = Duration::from_hours(24);

/// Length of the secret of all replicas, in bytes.
const SECRET_BYTES: u64 = 32;

/// Longest record that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// Versions of the layout.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    format: u32,
    min_reader: u32,
}

impl Fsck<'_> {
    pub(super) fn visit_own(&mut self, part: OwnPart, found: &Found) -> Result<(), StoreError> {
        if !self.is_first_pass {
            return Ok(());
        }
        let Found { key, meta, read } = found;
        let kind = match part {
            OwnPart::Alias(digest) => return self.visit_alias(key, &digest, read),
            OwnPart::Register(name) => {
                if self.is_shared {
                    self.registers.insert(name.as_str().to_owned());
                }
                return Ok(());
            }
            OwnPart::RegistersComplete => {
                self.has_all_registers = true;
                return Ok(());
            }
            OwnPart::Format => return self.visit_format(key),
            OwnPart::Secret if meta.length == SECRET_BYTES => return Ok(()),
            OwnPart::Secret => {
                let detail = format!("has {} bytes", meta.length);
                self.report(&Finding::at(FindingKind::SecretInvalid, key).detail(detail));
                return Ok(());
            }
            OwnPart::Intent => return self.visit_intent(key),
            OwnPart::Replica => {
                let age = self.now.duration_since(meta.modified).unwrap_or_default();
                if age < REPLICA_AGE {
                    return Ok(());
                }
                FindingKind::ReplicaLeft
            }
            OwnPart::Lock if !self.is_shared => return Ok(()),
            OwnPart::Leader | OwnPart::Record => return Ok(()),
            OwnPart::Lock => FindingKind::LockLeft,
            OwnPart::Scratch => FindingKind::TemporaryFile,
            OwnPart::TakenIntent => FindingKind::IntentLeft,
            OwnPart::Quarantine => FindingKind::QuarantinedContent,
            OwnPart::Trash => FindingKind::TrashedContent,
            OwnPart::Probe => FindingKind::ProbeLeft,
            part @ (OwnPart::Folder | OwnPart::Foreign) => {
                self.report_foreign(key, part == OwnPart::Folder);
                return Ok(());
            }
        };
        self.report(&Finding::at(kind, key));
        Ok(())
    }

    fn visit_alias(&mut self, key: &Key, digest: &Digest, read: &Read) -> Result<(), StoreError> {
        let held = match digest_in(read) {
            Ok(held) if held.algorithm() == Algorithm::Sha256 => Ok(held),
            Ok(held) => Err(format!("holds {held}, which is not a SHA-256")),
            Err(detail) => Err(detail),
        };
        let torn = |detail: String| Finding::at(FindingKind::AliasTorn, key).digest(digest).detail(detail);
        match held {
            // Gone since the scan, or reported.
            Err(detail) if detail.is_empty() => {}
            Err(detail) => self.report(&torn(detail)),
            Ok(held) if !self.is_there(&blob(&held))? => {
                self.report(&Finding::at(FindingKind::AliasDangling, key).digest(digest).detail(held));
            }
            Ok(held) => {
                if self.options.hash && !self.has_digest(&held, digest)? {
                    self.report(&torn(format!("holds {held}, whose bytes have another digest")));
                }
            }
        }
        Ok(())
    }

    /// Returns the SHA-256 of a blob that was pushed by another hash, if a record tells it and the bytes
    /// agree.
    pub(super) fn alias_of(&mut self, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        let read = self.read(&layout::alias(digest), crate::MAX_LINK_BYTES)?;
        let held = digest_in(&read).ok().filter(|held| held.algorithm() == Algorithm::Sha256);
        let Some(held) = held else { return Ok(None) };
        let is_right = self.is_there(&blob(&held))? && self.has_digest(&held, digest)?;
        Ok(is_right.then_some(held))
    }

    /// Checks that there is a record of a blob that was pushed by another hash than SHA-256.
    pub(super) fn check_alias(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        canonical: &Digest,
    ) -> Result<(), StoreError> {
        let key = layout::alias(digest);
        if !self.is_first_pass || self.is_there(&key)? {
            return Ok(());
        }
        let is_repaired = self.options.repair
            && self.is_there(&blob(canonical))?
            && self.has_digest(canonical, digest)?
            && self.put(&key, canonical.as_str().as_bytes())?;
        let finding = Finding::at(FindingKind::AliasMissing, key).of(&repository.name);
        self.report(&finding.digest(digest).repaired(is_repaired));
        Ok(())
    }

    fn visit_format(&mut self, key: &Key) -> Result<(), StoreError> {
        let read = self.read(key, MAX_RECORD_BYTES)?;
        let versions = read.bytes().and_then(|bytes| serde_json::from_slice::<Versions>(bytes).ok());
        match (versions, read) {
            (Some(versions), _) if versions.min_reader > FORMAT => {
                Err(StoreError::FormatTooNew { key: key.clone(), format: versions.format })
            }
            (None, Read::Found(bytes)) => {
                let detail = format!("holds {}", quoted(&bytes));
                self.report(&Finding::at(FindingKind::FormatUnreadable, key).detail(detail));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn visit_intent(&mut self, key: &Key) -> Result<(), StoreError> {
        let finding = match self.read(key, MAX_RECORD_BYTES)? {
            Read::Absent | Read::Unreadable => return Ok(()),
            Read::TooLong(length) => {
                Finding::at(FindingKind::IntentUnreadable, key).detail(format_args!("is {length} bytes long"))
            }
            Read::Found(bytes) => {
                if let Ok(intent) = serde_json::from_slice::<Intent>(&bytes) {
                    Finding::at(FindingKind::IntentLeft, key).of(intent.repository())
                } else {
                    let detail = format!("holds {}", quoted(&bytes));
                    Finding::at(FindingKind::IntentUnreadable, key).detail(detail)
                }
            }
        };
        self.report(&finding);
        Ok(())
    }

    /// Compares a repository with the registers.
    pub(super) fn check_register(&mut self, name: &RepositoryName) -> Result<(), StoreError> {
        let is_registered = self.registers.remove(name.as_str());
        if is_registered || !self.is_shared || !self.has_all_registers || !self.is_first_pass {
            return Ok(());
        }
        let key = layout::register(name);
        if self.is_there(&key)? {
            return Ok(());
        }
        let is_repaired = self.repairs() && self.put(&key, b"")?;
        self.report(&Finding::at(FindingKind::RegisterMissing, &key).of(name).repaired(is_repaired));
        Ok(())
    }

    /// Reports registers of repositories that have no content.
    pub(super) fn report_registers(&mut self) {
        for name in std::mem::take(&mut self.registers) {
            let Ok(name) = name.parse::<RepositoryName>() else { continue };
            let finding = Finding::at(FindingKind::RegisterWithoutRepository, layout::register(&name));
            self.report(&finding.of(&name));
        }
    }
}
