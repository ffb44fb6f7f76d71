//! File of users in the form of Apache's `htpasswd`, with bcrypt hashes alone.
//!
//! Distribution reads the same file (`registry/auth/htpasswd`). The parser and the changes of `quinistry
//! user` are pure; [`HtpasswdFile`] reads the file, and reads it again while it is in use.

mod bcrypt_hash;
mod create;
mod edit;
mod file;
mod parse;

pub use self::bcrypt_hash::{BcryptHash, BcryptHashError, MAX_PASSWORD_BYTES, NEW_HASH_COST};
pub use self::create::{CreateError, CreatedUser};
pub use self::edit::{remove_user, set_user};
pub use self::file::{HtpasswdFile, HtpasswdFileError, read};
pub(crate) use self::parse::HashText;
pub use self::parse::{HtpasswdError, MAX_FILE_BYTES, UserLine, Users, parse};
