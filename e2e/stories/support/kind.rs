//! Nodes of a kind cluster: containers that carry the node's name.

use std::path::Path;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::process::Command;

use super::{Node, shell};

/// Shell script that ends every container and its shim; containerd would only detach from them. A shim
/// without a container would stay, with no process left to remove it. Containers that end in this way leave
/// their host ports in the kernel, where these would not survive a power failure: the script deletes the
/// rules of CNI's portmap in all forms that its versions write. All other rules stay, since Docker answers
/// the node's DNS by some of them.
const STOP_SCRIPT: &str = "systemctl stop kubelet
ctr -n k8s.io tasks ls -q | xargs -r -n1 ctr -n k8s.io tasks kill -s SIGKILL
systemctl stop containerd
pkill -KILL containerd-shim || true
for tool in iptables ip6tables; do
  $tool-save -t nat 2>/dev/null | grep -v CNI- | $tool-restore -T nat 2>/dev/null || true
done
for family in ip ip6 inet; do nft delete table $family cni_hostport 2>/dev/null || true; done";

/// Shell script that removes the images that are not part of the node's own image. That one contains the
/// sandbox image and kind's own images, which possibly no registry can provide again. An image is removed
/// under all names of its digest, one of which the runtime has added. Importing has added names to archives,
/// too; kind's own images lose those without harm.
const WIPE_SCRIPT: &str = r"systemctl start containerd
ctr -n k8s.io images ls | awk '
  { digest[$1] = $3 }
  /^import-/ { print $1 }
  /\/quinistry[:@]/ { ours[$3] }
  END { for (name in digest) if (digest[name] in ours) print name }' | sort -u | xargs -r ctr -n k8s.io images rm --sync
systemctl stop containerd
rm -rf /var/lib/kubelet/image_manager /quinistry-e2e /var/lib/quinistry";

/// Shell script that writes a file from standard input. The script replaces the name and never the content,
/// since an earlier run's executable may still run under that name.
const COPY_SCRIPT: &str = r#"mkdir -p "${0%/*}" && cat >"$0.$$" && chmod 755 "$0.$$" && mv -f "$0.$$" "$0""#;

/// Node of a kind cluster.
pub struct KindNode {
    name: String,
}

impl KindNode {
    pub fn new(name: &str) -> Self {
        Self { name: name.into() }
    }

    fn script<'a>(&'a self, script: &'a str) -> BoxFuture<'a, Result<()>> {
        async move { shell::output(self.command(&["sh", "-c", script])).await.map(drop) }.boxed()
    }
}

impl Node for KindNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, words: &[&str]) -> Command {
        // kind passes its proxy settings to its nodes, where they would apply to the node's own localhost.
        shell::command(["docker", "exec", "-i", "-e", "no_proxy=*", &self.name].iter().chain(words))
    }

    fn disk_command(&self, words: &[&str]) -> Command {
        self.command(words)
    }

    fn ctr(&self) -> Vec<String> {
        ["ctr", "-n", "k8s.io"].map(str::to_owned).into()
    }

    fn copy<'a>(&'a self, file: &'a Path) -> BoxFuture<'a, Result<String>> {
        async move {
            let name = file.file_name().expect("a file has a name").to_string_lossy();
            let path = format!("/quinistry-e2e/{name}");
            // Not `docker cp`: it sees neither the mounts of the container nor, in some packagings, this
            // machine's /tmp.
            shell::output_of(self.command(&["sh", "-c", COPY_SCRIPT, &path]), file).await?;
            Ok(path)
        }
        .boxed()
    }

    fn containerd_root(&self) -> String {
        "/".into()
    }

    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        self.script(STOP_SCRIPT)
    }

    fn start(&self) -> BoxFuture<'_, Result<()>> {
        self.script("systemctl start containerd kubelet")
    }

    fn wipe(&self) -> BoxFuture<'_, Result<()>> {
        self.script(WIPE_SCRIPT)
    }
}
