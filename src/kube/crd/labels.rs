//! Labels by which what belongs to a resource is found. They end in selectors and other people's queries, so none may
//! change.

/// UID of the resource; with [`GENERATION`] the selector of a `DaemonSet`, which cannot be changed for ever.
pub const RESOURCE: &str = "quinistry.dev/resource";

/// Number of the generation.
pub const GENERATION: &str = "quinistry/generation";

/// Label of a node: with the value `true` no generation is raised there.
pub const EXCLUDE: &str = "quinistry.dev/exclude";

/// `seed`, `parent` or `child`.
pub const ROLE: &str = "quinistry/role";
