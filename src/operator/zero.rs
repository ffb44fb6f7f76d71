//! Generation 0 while there is no operator: one pass of what an operator does for it, for `up`, which must begin with
//! something. Same plan, same bytes, same field manager, so that the operator finds what it would have made itself.
//!
//! Takes a client. Touches nothing but generation 0 and the labels of nodes that belong to it. Called by `up`.

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Client;

use super::error::OperatorError;
use crate::crd::{Deviation, GenerationStatus, Quinistry};

/// How far generation 0 is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zero {
    /// Over all nodes, as in a resource's status; none while it cannot be raised at all.
    pub status: Option<GenerationStatus>,
    /// A pod of the current template is Ready on each selected node that is ready, and there is at least one.
    pub rolled_out: bool,
    /// What is wrong, node by node; or, with an empty node, with the resource.
    pub problems: Vec<Deviation>,
}

/// One pass: reads nodes, pods, `DaemonSets` and the `ConfigMaps`' metadata, and does what is next. To be repeated, about
/// every second, until it is rolled out.
pub async fn raise(client: &Client, quinistry: &Quinistry) -> Result<Zero, OperatorError> {
    let _ = (client, quinistry);
    todo!("in work")
}

/// What [`raise`] would apply for a resource that does not exist yet, of an executable in so many pieces: for review,
/// without UIDs. Reads nodes, if there is a client; else the carriers that the resource names, or a common one, stand in.
pub async fn preview(
    client: Option<&Client>,
    quinistry: &Quinistry,
    pieces: usize,
) -> Result<Vec<DaemonSet>, OperatorError> {
    let _ = (client, quinistry, pieces);
    todo!("in work")
}
