//! crictl, which asks containerd to pull as a kubelet does with the login of an `imagePullSecret`.

use super::Client;
use super::containerd::{serve, trust};
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::program::built;
use crate::registry::Registry;
use crate::session::Session;

pub(crate) struct Crictl {
    endpoint: String,
}

impl Client for Crictl {
    fn needs() -> Vec<&'static str> {
        vec![built("containerd", "2.4.2"), built("ctr", "2.4.2"), crictl(), "runc"]
    }

    fn start(machine: &mut Machine, registries: &[Registry]) -> Self {
        let hosts = trust(machine, registries);
        let tables = format!("[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = {hosts:?}\n");
        let endpoint = format!("unix://{}", serve(machine, "", &tables));
        let client = Self { endpoint };
        machine.until("containerd's service for kubelets", || {
            let mut list = machine.command(crictl());
            list.args(client.endpoints()).arg("images");
            list.output().unwrap().status.success().then_some(())
        });
        client
    }

    fn login(&self, _: &Session<'_>) -> Option<Attempt> {
        None
    }

    fn push(&self, _: &Session<'_>, _: &str) -> Option<Attempt> {
        None
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let mut pull = session.command(crictl(), &[]);
        pull.args(self.endpoints()).arg("pull");
        pull.args(session.user_and_password().iter().flat_map(|login| ["--creds", login]));
        pull.arg(session.reference(repository));
        session.attempt(pull)
    }
}

impl Crictl {
    fn endpoints(&self) -> [&str; 4] {
        ["--runtime-endpoint", &self.endpoint, "--image-endpoint", &self.endpoint]
    }
}

fn crictl() -> &'static str {
    built("crictl", "1.34.0")
}
