//! Faults around a bucket.

mod objects;
mod plan;
mod requests;
mod spoil;
#[cfg(test)]
mod tests;

pub use self::plan::{Fault, FaultPlan, FaultRates};
pub use self::requests::{RequestCounts, RequestKind, RequestLog, SentRequest};

/// A bucket whose answers are spoiled by a plan, and whose requests are counted.
#[derive(Debug)]
pub struct Faulty<O> {
    inner: O,
    plan: FaultPlan,
    log: RequestLog,
}

impl<O> Faulty<O> {
    /// Puts faults before a bucket.
    pub fn new(inner: O, plan: FaultPlan) -> Self {
        Self { inner, plan, log: RequestLog::default() }
    }

    /// Returns the bucket behind the faults.
    pub fn inner(&self) -> &O {
        &self.inner
    }

    /// Returns the plan of faults.
    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// Returns the requests.
    pub fn log(&self) -> &RequestLog {
        &self.log
    }
}
