//! skopeo, which treats localhost like any other host.

use super::Client;
use crate::attempt::Attempt;
use crate::machine::Machine;
use crate::registry::Registry;
use crate::session::{Session, image, layout};

pub(crate) struct Skopeo {
    layout: String,
}

/// Options of the connection; `side` is `src-`, `dest-`, or empty. A folder of certificates is trusted by its
/// files `*.crt`.
pub(crate) fn connection(session: &Session<'_>, side: &str) -> Vec<String> {
    let Some(authority) = &session.registry.authority else {
        return vec![format!("--{side}tls-verify=false")];
    };
    let folder = session.path("certificates");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(authority, format!("{folder}/ca.crt")).unwrap();
    vec![format!("--{side}cert-dir={folder}")]
}

impl Client for Skopeo {
    fn needs() -> Vec<&'static str> {
        vec!["skopeo"]
    }

    fn start(machine: &mut Machine, _: &[Registry]) -> Self {
        Self { layout: layout(machine, &image("skopeo")) }
    }

    fn login(&self, session: &Session<'_>) -> Option<Attempt> {
        let mut login = session.command("skopeo", &["login", "--authfile", &session.logins()]);
        login.args(connection(session, ""));
        login.args(["--username", session.login?.user, "--password-stdin", &session.registry.host]);
        Some(session.attempt_with_password(login))
    }

    fn push(&self, session: &Session<'_>, repository: &str) -> Option<Attempt> {
        let mut push = session.command("skopeo", &["--insecure-policy", "copy", "--preserve-digests"]);
        push.args(["--dest-authfile", &session.logins()]).args(connection(session, "dest-"));
        push.args([format!("oci:{}", self.layout), format!("docker://{}", session.reference(repository))]);
        Some(session.attempt(push))
    }

    fn pull(&self, session: &Session<'_>, repository: &str) -> Attempt {
        let mut pull = session.command("skopeo", &["--insecure-policy", "copy", "--preserve-digests"]);
        pull.args(["--src-authfile", &session.logins()]).args(connection(session, "src-"));
        pull.arg(format!("docker://{}", session.reference(repository)));
        pull.arg(format!("dir:{}", session.path("pulled")));
        session.attempt(pull)
    }
}
