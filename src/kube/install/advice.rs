//! Advice: one sentence for each reason. Pure. The table in `docs/conditions.md` has more detail.

use crate::crd::Reason;

/// Returns advice for a reason; `None` if there is nothing to do.
#[must_use]
pub const fn advice_for(reason: Reason) -> Option<&'static str> {
    use Reason as R;
    Some(match reason {
        R::AllProven
        | R::StoresReady
        | R::RollingOut
        | R::Verifying
        | R::DigestsEqual
        | R::PortsFree
        | R::AsExpected
        | R::NamespaceTerminating => return None,
        R::Suspended => "set spec.suspend to false to go on",
        R::Unknown => "wait; if it stays, look at the operator's log",
        R::BootstrapImagePullFailed => {
            "look at the image's name, its registry and imagePullSecrets; preload one that was made with `image save --bootstrap`"
        }
        R::BootstrapDigestDiffers => "pin spec.image by digest, or set spec.digest",
        R::NoNodes => "look at nodeSelector and tolerations, and at the nodes' labels and taints",
        R::NodesNotReady => "repair or remove the nodes; nothing else needs to be done",
        R::MixedArchitectures => "set nodeSelector kubernetes.io/arch, and make one resource for each",
        R::NoCarrierImage => {
            "name an image that the node has with `quinistry up --carrier IMAGE`, or pull one there"
        }
        R::SeedIncomplete => "run `quinistry up` again, with the executable that the resource names",
        R::HostPortConflict => {
            "remove the pod that holds the port, or create the resource again with another basePort"
        }
        R::PortTaken => {
            "stop the process that holds the port, or create the resource again with another basePort"
        }
        R::HostPortUnreachable => {
            "set network.mode to HostNetwork: the network plugin does not serve host ports on localhost"
        }
        R::PortConflict => "delete one of the two resources, or give one another basePort",
        R::PodSecurityForbidden => {
            "kubectl label --overwrite namespace NAMESPACE pod-security.kubernetes.io/enforce=privileged"
        }
        R::ImagePullFailed => {
            "look at the runtime's mirrors for localhost, and at the predecessor on that node"
        }
        R::AlwaysPullImages => "except the namespace from the admission plugin AlwaysPullImages",
        R::CrashLoop => "most often too little memory (spec.resources); the message has its last words",
        R::Unschedulable => {
            "make room on the node, or leave it out: kubectl label node NODE quinistry.dev/exclude=true"
        }
        R::PodFailed | R::PodNotStarted => {
            "look at the node: disk, memory, network; or leave it out: kubectl label node NODE quinistry.dev/exclude=true"
        }
        R::PodNotReady => "look at the containers that the message names, and at what answers on the port",
        R::PodTerminating => "look at the pod's finalizers, and at the node's kubelet",
        R::PodMissing => "look at the DaemonSet's Events, and at what edits DaemonSets in this cluster",
        R::PodOutdated => "mend the nodes that are named beside it: they use up rollout.maxUnavailable",
        R::ImageRewritten => "except the namespace from the admission plugin that rewrites images",
        R::PodsUnreachable => "let the operator reach port 8080 of the pods, or set spec.digest",
        R::DigestMismatch => {
            "treat it as an alarm: compare spec.digest, the first image, and mirrors on that node"
        }
        R::ProgressDeadlineExceeded => "look at the nodes named here: they are what it waits for",
        R::WaitingForGeneration => "look at the condition Ready: the stores follow generation 1",
        R::TooFewNodes => {
            "add nodes, or lower store.copies; look at store.nodeSelector, tolerations and taints"
        }
        R::StoresNotReady => "look at the pods of the nodes that the message names",
        R::NameTaken => "delete the object that the message names, or give the resource another name",
        R::RightsMissing => "set store.enabled=true in the values of the operator's chart",
        R::Contested => "look for a second operator, or for a tool that edits the DaemonSets or their pods",
        R::InvalidSpec => "change the specification as the message says",
        R::ApplyRejected => "the message has the API server's words: a quota, a policy, a webhook",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_to_do_something_where_there_is_a_remedy() {
        let schema = crate::crd::definition();
        let text = schema.to_string();
        let list = text.split("\"reason\":{").find(|part| part.contains("\"AllProven\"")).unwrap();
        let begin = list.find("\"enum\":[").unwrap() + 8;
        let reasons: Vec<Reason> =
            serde_json::from_str(&format!("[{}]", &list[begin..list[begin..].find(']').unwrap() + begin]))
                .unwrap();
        assert!(reasons.len() > 25);
        let page = include_str!("../../../docs/conditions.md");
        for reason in reasons {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
            let row = row.unwrap_or_else(|| panic!("{reason} has no row in docs/conditions.md"));
            let documented = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            let nothing = documented.starts_with("nothing") || documented == "wait";
            assert_eq!(advice_for(reason).is_none(), nothing, "{reason}: {documented}");
        }
    }
}
