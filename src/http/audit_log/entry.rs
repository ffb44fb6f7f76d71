//! Event of the audit log, and its line. Pure.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::PeerProcess;
use crate::client_address::ClientAddress;
use crate::json_line::{self, JsonLine};
use crate::redaction::mask_keys;

/// Longest user name in a line, in characters: a client may have sent a password in its place.
const MAX_USER_CHARACTERS: usize = 64;

/// Longest form of other text in a line, in bytes.
const MAX_TEXT_BYTES: usize = 384;

/// Beginnings of secrets that clients send as user names by mistake: API keys of this program and JSON Web Tokens.
const SECRET_BEGINNINGS: [&str; 2] = ["qk_", "eyJ"];

/// Text in place of a secret.
const SECRET: &str = "***";

/// Event. Texts may be untrusted; they are escaped and cut.
#[derive(Clone, Debug)]
pub struct AuditEntry<'a> {
    /// Time at which the request began.
    pub time: SystemTime,
    /// Identifier of the request.
    pub request_id: Option<&'a str>,
    /// Address of the client.
    pub client: Option<ClientAddress>,
    /// Process of a client that is connected to a unix socket.
    pub process: Option<PeerProcess>,
    /// Name of the user; of a login that failed, the name that the client claims.
    pub identity: Option<&'a str>,
    /// Evidence of the name.
    pub how: &'a str,
    /// Part of the registry that acted by itself, such as `retention`; `None` for the action of a client.
    pub actor: Option<&'a str>,
    /// Identifier of the API key, which is no secret.
    pub key: Option<&'a str>,
    /// Action, such as `push`.
    pub action: &'a str,
    /// Repository.
    pub repository: Option<&'a str>,
    /// Tag, digest or upload session.
    pub reference: Option<&'a str>,
    /// Digest that the response is about.
    pub digest: Option<&'a str>,
    /// Decision.
    pub decision: AuditDecision,
    /// Place of the rule that granted the action, or of the policy that asked for it.
    pub rule: Option<&'a str>,
    /// Status of the response, if there is one.
    pub status: Option<u16>,
    /// Reason of a failed login or reload, without any secret.
    pub reason: Option<&'a str>,
}

/// Decision about an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditDecision {
    /// The client may do it. Its status tells whether it worked.
    Granted,
    /// The client may not do it.
    Denied,
    /// Request that ended before a decision, such as that of a client that left while its password was checked.
    Unknown,
}

// === impl AuditEntry ===

impl<'a> AuditEntry<'a> {
    /// Makes the event of a configuration that was read again because of a signal; `refusal` is why it is not in use.
    #[must_use]
    pub const fn of_reload(time: SystemTime, refusal: Option<&'a str>) -> Self {
        Self {
            time,
            request_id: None,
            client: None,
            process: None,
            identity: None,
            how: "signal",
            actor: None,
            key: None,
            action: "reload",
            repository: None,
            reference: None,
            digest: None,
            decision: if refusal.is_none() { AuditDecision::Granted } else { AuditDecision::Denied },
            rule: None,
            status: None,
            reason: refusal,
        }
    }

    /// Appends the line.
    pub(super) fn append_to(&self, text: &mut Vec<u8>) {
        let cut = |value: Option<&str>| value.map(|value| json_line::cut(value, MAX_TEXT_BYTES).to_owned());
        let client = self.client.map(|client| client.to_string());
        let start = text.len();
        let mut line = JsonLine::begin(text);
        line.field("time", &format!("{:.6}", Timestamp::try_from(self.time).unwrap_or_default()));
        line.optional("request_id", cut(self.request_id).as_deref());
        line.optional("client", client.as_deref());
        if let Some(PeerProcess { pid, uid, gid }) = self.process {
            if let Some(pid) = pid {
                line.field("pid", &pid);
            }
            line.field("uid", &uid);
            line.field("gid", &gid);
        }
        line.optional("identity", self.identity.map(without_secret));
        line.field("how", self.how);
        line.optional("actor", self.actor);
        line.optional("key", cut(self.key).as_deref());
        line.field("action", self.action);
        line.optional("repository", cut(self.repository).as_deref());
        line.optional("reference", cut(self.reference).as_deref());
        line.optional("digest", cut(self.digest).as_deref());
        line.field("decision", self.decision.as_str());
        line.optional("rule", cut(self.rule).as_deref());
        if let Some(status) = self.status {
            line.field("status", &status);
        }
        line.optional("reason", cut(self.reason).as_deref());
        line.end();
        mask_keys(text, start);
    }
}

/// Returns a user name cut to its greatest length, or a mask if it looks like a secret.
fn without_secret(user: &str) -> &str {
    if SECRET_BEGINNINGS.iter().any(|beginning| {
        user.get(..beginning.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(beginning))
    }) {
        return SECRET;
    }
    user.char_indices().nth(MAX_USER_CHARACTERS).map_or(user, |(end, _)| &user[..end])
}

// === impl AuditDecision ===

impl AuditDecision {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}
