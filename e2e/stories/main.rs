//! Stories on a real cluster: tests through its API and from its nodes.
//!
//! Each file holds one story; `support` holds their common code. `e2e/run` builds everything, starts a
//! cluster, and runs this program inside the cluster's network. Without a cluster in the environment the
//! program skips all stories. Arguments: names of stories (all, if none), `--list`.

#![allow(unreachable_pub, missing_docs, reason = "a program of its own, which no other crate links")]

mod air_gap_page;
mod api_away;
mod api_faults;
mod application;
mod application_faults;
mod application_outages;
mod application_single_node;
mod architectures;
mod bad_children;
mod bad_resources;
mod bootstrap_image;
mod by_hand;
mod changes_midway;
mod conflicts;
mod crowded_node;
mod dead_nodes;
mod deletion;
mod down_leaves_others;
mod flapping_nodes;
mod grow_and_shrink;
mod held_write;
mod idle;
mod image_policy;
mod impostor;
mod leaders;
mod lifecycle;
mod nameless_image;
mod namespace_deleted;
mod operator_killed;
mod other_digests;
mod pod_security;
mod ports;
mod ports_of_nodes;
mod private_registry;
mod raise;
mod registry_bucket;
mod registry_chart;
mod removed_nodes;
mod reroll;
mod rewriting_webhook;
mod rival_operators;
mod seed_carriers;
mod seed_faults;
mod seed_heals;
mod seed_pieces;
mod seed_upgrade;
mod support;
mod two_operators;
mod unreadable;
mod up;
mod upstream_mirror;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::runner::main(&[
        by_hand::story(),
        raise::story(),
        grow_and_shrink::story(),
        reroll::story(),
        bad_resources::story(),
        deletion::story(),
        pod_security::story(),
        bootstrap_image::story(),
        private_registry::story(),
        registry_chart::story(),
        registry_bucket::story(),
        upstream_mirror::story(),
        ports::story(),
        ports_of_nodes::story(),
        changes_midway::story(),
        bad_children::story(),
        other_digests::story(),
        impostor::story(),
        rewriting_webhook::story(),
        image_policy::story(),
        seed_carriers::story(),
        architectures::story(),
        idle::story(),
        namespace_deleted::story(),
        api_faults::story(),
        conflicts::story(),
        operator_killed::story(),
        api_away::story(),
        application::story(),
        application_faults::story(),
        application_single_node::story(),
        application_outages::story(),
        removed_nodes::story(),
        dead_nodes::story(),
        crowded_node::story(),
        flapping_nodes::story(),
        leaders::story(),
        two_operators::story(),
        nameless_image::story(),
        unreadable::story(),
        held_write::story(),
        rival_operators::story(),
        // This story uninstalls the operator, so that the following ones install their own.
        lifecycle::story(),
        seed_pieces::story(),
        seed_faults::story(),
        seed_upgrade::story(),
        up::story(),
        air_gap_page::story(),
        down_leaves_others::story(),
        seed_heals::story(),
    ])
}
