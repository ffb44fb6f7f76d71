//! API keys: credentials for programs, each limited to repositories and rights of its owner.
//!
//! A key is `qk_ID_SECRET`: an identifier, which is no secret, and 32 random bytes with a checksum, by which
//! scanners find keys that leak. The file holds SHA-256 of each key; a key of 256 random bits needs no slow
//! hash. The rights of a key are those of its owner, without those that its ceiling takes away, so that a
//! removed owner ends the key.

mod ceiling;
mod file;
mod key;
mod record;
mod verifier;

pub use self::file::{ApiKeysFile, ApiKeysFileError, SeenFiles, check_file};
pub use self::key::{KeyId, NewKey};
pub use self::record::{ApiKeys, KeyRecord, MAX_FILE_BYTES, RecordError, add_record, parse, remove_record};
pub use self::verifier::{ApiKeyVerifier, KeyUser};
