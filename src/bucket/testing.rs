//! Buckets for tests: one in memory, and faults around any bucket.
//!
//! [`Mem`] answers as a store should, each request at one point of time. [`Faulty`] stands before a bucket and
//! spoils answers as networks and overloaded stores do. Neither is part of the program: other crates reach them
//! by the feature `testing`.

mod faulty;
mod mem;

pub use self::faulty::{
    Fault, FaultPlan, FaultRates, Faulty, RequestCounts, RequestKind, RequestLog, SentRequest,
};
pub use self::mem::{HonoredConditions, Mem, MemOptions, StoreClock, Versions};

/// Returns the names of the failpoints of all requests, which `QUINISTRY_FAILPOINT` takes.
#[cfg(feature = "testing")]
pub fn failpoints() -> impl Iterator<Item = &'static str> {
    crate::governed::FAILPOINTS.iter().copied()
}
