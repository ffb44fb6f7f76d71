//! Support for the stories: the cluster, its nodes, a stage for each story, and the runner.

pub mod application;
pub mod availability;
pub mod breaking_proxy;
pub mod bundles;
pub mod chain_rule;
pub mod cluster;
pub mod daemon_sets;
pub mod diagnosis;
pub mod fault_proxy;
pub mod image_observer;
pub mod kind;
pub mod kubeconfig;
pub mod lease;
pub mod node;
pub mod node_process;
pub mod observer;
pub mod operator;
pub mod outage;
pub mod page_commands;
pub mod pods;
pub mod policies;
pub mod process;
pub mod random;
pub mod registry_release;
pub mod runner;
pub mod seed;
pub mod serving;
pub mod shell;
pub mod stage;
pub mod up;
pub mod wait;
pub mod world;

pub use node::Node;
pub use runner::{Story, When};
pub use stage::Stage;
