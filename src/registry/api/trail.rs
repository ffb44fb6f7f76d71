//! Trail of a request: what the access log and the audit log tell about its client, gathered while the request is
//! answered.

use std::time::SystemTime;

use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use quinistry_http::audit_log::{AuditDecision, AuditEntry, AuditLog};
use quinistry_http::client_address::{ClientAddress, TrustedProxies};
use quinistry_http::{Peer, PeerProcess};
use quinistry_oci::RepositoryName;

use super::access::AccessAction;
use super::authorization;
use super::method::Method;
use super::response::served_content::DIGEST;
use super::route::Route;
use crate::Settings;
use crate::auth::authenticator::Credentials;
use crate::auth::caller::Caller;
use crate::auth::{AuthenticationError, IdentityProof, Right};
use crate::client_address;

/// Status of a request whose client left before the answer, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// Audit log of a registry.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Log.
    pub log: AuditLog,
    /// True if reads are recorded, too.
    pub pulls: bool,
}

/// Trail of one request.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// Client, once it is known.
    pub(crate) caller: Caller,
    /// Login that failed.
    pub(crate) failed_login: Option<FailedLogin>,
    record: Option<Box<Record>>,
}

/// Login that failed.
#[derive(Debug)]
pub(crate) struct FailedLogin {
    /// Name that the client claims.
    pub(crate) user: Option<String>,
    /// Reason, without any secret.
    pub(crate) reason: String,
}

/// Record of a request, written when it is dropped: also if the client leaves before the answer.
#[derive(Debug)]
struct Record {
    audit: Audit,
    time: SystemTime,
    request_id: Option<String>,
    client: Option<ClientAddress>,
    process: Option<PeerProcess>,
    subject: Option<Subject>,
    caller: Caller,
    /// True once the client was found and may do what the request asks for.
    is_admitted: bool,
    failed_login: Option<FailedLogin>,
    status: Option<StatusCode>,
    digest: Option<String>,
}

/// Action of a request, and what it is about.
#[derive(Debug)]
struct Subject {
    action: &'static str,
    is_write: bool,
    repository: Option<RepositoryName>,
    reference: Option<String>,
    /// Right that the rules are asked for.
    right: Right,
}

// === impl FailedLogin ===

impl FailedLogin {
    /// Makes the note of credentials that were refused, and logs the reason.
    pub(crate) fn new(credentials: Credentials<'_>, error: &AuthenticationError) -> Self {
        let user = match credentials {
            Credentials::Basic { user, .. } => Some(user.to_owned()),
            Credentials::Bearer(_) => None,
        };
        let reason = match error {
            AuthenticationError::Invalid { reason } => reason.clone(),
            AuthenticationError::TooManyAttempts { .. } => error.to_string(),
        };
        tracing::debug!(%reason, "login refused");
        Self { user, reason }
    }
}

// === impl Trail ===

impl Trail {
    /// Begins the trail of a request.
    pub(crate) fn begin(settings: &Settings, request: &Parts, request_id: Option<&str>) -> Self {
        let record = settings.audit.as_ref().map(|audit| {
            let peer = request.extensions.get::<Peer>().copied();
            let observer = settings.observer.as_ref();
            let none = TrustedProxies::default();
            let trusted = observer.map_or(&none, |observer| &observer.trusted_proxies);
            let client = client_address::find(peer, &request.headers, trusted);
            let process = match peer {
                // Behind a proxy the client is another one.
                Some(Peer::Unix(process)) if client == Some(ClientAddress::Unix) => process,
                _ => None,
            };
            Box::new(Record {
                audit: audit.clone(),
                time: SystemTime::now(),
                request_id: request_id.map(str::to_owned),
                client,
                process,
                subject: None,
                caller: Caller::ANYONE,
                is_admitted: false,
                failed_login: None,
                status: None,
                digest: None,
            })
        });
        Self { caller: Caller::ANYONE, failed_login: None, record }
    }

    /// Notes what the request is about.
    pub(crate) fn note_subject(&mut self, route: &Route, method: Method, action: AccessAction) {
        let Some(record) = &mut self.record else { return };
        let reference = match route {
            Route::Manifest { reference, .. } => Some(reference),
            Route::Blob { digest, .. } | Route::Referrers { digest, .. } => Some(digest),
            Route::Upload { id, .. } => Some(id),
            _ => None,
        };
        record.subject = Some(Subject {
            action: action.as_str(),
            is_write: method != Method::Read,
            repository: route.name().cloned(),
            reference: reference.cloned(),
            right: *authorization::needed(action, method).last().expect("each action needs a right"),
        });
    }

    /// Notes the client for a record that is written although the request is not answered.
    pub(crate) fn note_caller(&mut self, caller: &Caller) {
        self.caller = caller.clone();
        if let Some(record) = &mut self.record {
            record.caller = caller.clone();
        }
    }

    /// Notes that the client may do what the request asks for.
    pub(crate) fn note_admitted(&mut self) {
        if let Some(record) = &mut self.record {
            record.is_admitted = true;
        }
    }

    /// Ends the trail with the answer.
    pub(crate) fn end(self, response: &Response) {
        let Some(mut record) = self.record else { return };
        record.status = Some(response.status());
        let digest = response.headers().get(DIGEST).and_then(|digest| digest.to_str().ok());
        record.digest = digest.map(str::to_owned);
        record.failed_login = self.failed_login;
    }
}

// === impl Record ===

impl Record {
    /// Returns true if the log has a line for the request.
    fn is_logged(&self) -> bool {
        let is_denied = self.is_denied();
        let by_key = self.caller.identity().is_some_and(|identity| identity.proof.api_key().is_some());
        let Some(subject) = &self.subject else { return self.failed_login.is_some() || by_key };
        // Every client begins with a request to `/v2/` that is refused.
        let is_first_contact = subject.repository.is_none() && subject.action == AccessAction::Ping.as_str();
        self.failed_login.is_some()
            || subject.is_write
            || by_key
            || is_denied && !is_first_contact
            || self.audit.pulls && !is_first_contact
    }

    fn is_denied(&self) -> bool {
        self.failed_login.is_some()
            || matches!(self.status, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN))
    }

    fn decision(&self) -> AuditDecision {
        match (self.is_denied(), self.is_admitted) {
            (true, _) => AuditDecision::Denied,
            (false, true) => AuditDecision::Granted,
            (false, false) => AuditDecision::Unknown,
        }
    }

    fn write(&self) {
        let identity = self.caller.identity();
        let proof = identity.map(|identity| &identity.proof);
        let (how, key) =
            (proof.map_or("none", IdentityProof::as_str), proof.and_then(IdentityProof::api_key));
        let subject = self.subject.as_ref();
        let decision = self.decision();
        let repository = subject.and_then(|subject| subject.repository.as_ref());
        let rule = subject.zip(repository).filter(|_| decision == AuditDecision::Granted);
        let rule =
            rule.and_then(|(subject, repository)| self.caller.decide(repository, subject.right).rule());
        let rule = rule.map(ToString::to_string);
        let failed = self.failed_login.as_ref();
        self.audit.log.log(&AuditEntry {
            time: self.time,
            request_id: self.request_id.as_deref(),
            client: self.client,
            process: self.process,
            identity: match failed {
                Some(failed) => failed.user.as_deref(),
                None => identity.and_then(|identity| identity.name.as_deref()),
            },
            how,
            actor: None,
            key,
            action: if failed.is_some() {
                "login"
            } else {
                subject.map_or("login", |subject| subject.action)
            },
            repository: repository.map(RepositoryName::as_str),
            reference: subject.and_then(|subject| subject.reference.as_deref()),
            digest: self.digest.as_deref(),
            decision,
            rule: rule.as_deref(),
            status: Some(self.status.map_or(CLIENT_LEFT, |status| status.as_u16())),
            reason: failed.map(|failed| failed.reason.as_str()),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.is_logged() {
            self.write();
        }
    }
}
