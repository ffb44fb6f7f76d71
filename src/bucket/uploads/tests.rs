//! Behaviours of uploads into a bucket in memory.
