//! Types of conditions: of a `Quinistry`, and of Kubernetes' own objects.

/// Every generation is proven. Also a condition of nodes and pods.
pub const READY: &str = "Ready";

/// Generations are being raised or replaced.
pub const PROGRESSING: &str = "Progressing";

/// No other resource, pod or process uses the ports.
pub const PORTS_AVAILABLE: &str = "PortsAvailable";

/// Every generation serves one digest.
pub const FIXED_POINT: &str = "FixedPoint";

/// Something is wrong.
pub const DEGRADED: &str = "Degraded";

/// All stores are ready; only with `spec.store`.
pub const STORE_READY: &str = "StoreReady";

/// Condition of a pod that has a node.
pub const POD_SCHEDULED: &str = "PodScheduled";

/// Condition of a definition whose resources the API server serves.
pub const ESTABLISHED: &str = "Established";

/// Condition of an `APIService` that answers. Also of a bundle: nodes that were asked can serve all names.
pub const AVAILABLE: &str = "Available";

/// The names of a bundle count.
pub const ACCEPTED: &str = "Accepted";
