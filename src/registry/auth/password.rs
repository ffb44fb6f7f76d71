//! Verification of user names and passwords.
//!
//! bcrypt takes a tenth of a second by design, and clients send their password with every request. Successes
//! are therefore remembered (`SuccessCache`), equal attempts share one computation, attempts are throttled
//! by network and user (`Throttle`), and computations leave one processor to all other requests. Nothing
//! here is in the way of requests without a password.

mod checks;
mod processors;
mod success_cache;
#[cfg(test)]
mod tests;
mod throttle;
mod verifier;

pub use self::checks::PasswordChecks;
pub use self::verifier::PasswordVerifier;
