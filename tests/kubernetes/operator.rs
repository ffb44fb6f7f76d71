//! The operator against an API server that only remembers: what it writes, what it leaves alone, what it does
//! when it is refused, and who of several leads. What plans hold is tested beside them.

mod api;
mod bundles;
mod election;
mod running;
mod store;
mod writes;
