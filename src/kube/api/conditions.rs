//! Types of conditions: those of a `Quinistry`, and those of Kubernetes' own objects that are read.

/// Every generation is proven. Also Kubernetes' own, of nodes and pods.
pub const READY: &str = "Ready";

/// Generations are being raised or replaced.
pub const PROGRESSING: &str = "Progressing";

/// No other resource, pod or process has the ports.
pub const PORTS_AVAILABLE: &str = "PortsAvailable";

/// Every generation serves one digest.
pub const FIXED_POINT: &str = "FixedPoint";

/// Something is wrong.
pub const DEGRADED: &str = "Degraded";

/// Condition of a pod that has a node.
pub const POD_SCHEDULED: &str = "PodScheduled";

/// Condition of a definition whose resources the API server serves.
pub const ESTABLISHED: &str = "Established";

/// Condition of an `APIService` that answers.
pub const AVAILABLE: &str = "Available";
