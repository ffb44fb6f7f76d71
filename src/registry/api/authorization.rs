//! Authorization of a request in a registry with users: from the `Authorization` field to a [`Caller`], or to a
//! refusal that is the same whether or not the content exists.

mod cleartext;

use std::sync::Arc;

use http::request::Parts;
use quinistry_http::Peer;
use quinistry_http::client_address::ClientAddress;
use quinistry_oci::RepositoryName;

use super::access::AccessAction;
use super::method::Method;
use super::response::error::{AskedAction, Error, Unauthorized};
use super::route::Route;
use super::trail::{FailedLogin, Trail};
use crate::PathPrefix;
use crate::auth::authenticator::Credentials;
use crate::auth::caller::{Caller, KnownCaller};
use crate::auth::challenge::{ChallengeError, Scope};
use crate::auth::credentials::{AuthorizationError, AuthorizationField};
use crate::auth::{AccessControl, AuthenticationError, Decision, Identity, IdentityProof, Right};

/// Message to a client without credentials, or with some that are not valid.
const LOG_IN: &str = "authentication required";

/// Message to a client whose credentials are limited to less than its user may do.
const INSUFFICIENT: &str = "credentials are limited to less than the request needs";

/// Begin of the message to a user whom no rule grants what the request asks for.
const DENIED: &str = "requested access to the resource is denied";

/// Subject of an authorization.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedAccess<'a> {
    pub(crate) route: &'a Route,
    pub(crate) method: Method,
    pub(crate) action: AccessAction,
    /// True if the request is for the built-in repository.
    pub(crate) is_builtin: bool,
}

/// Finds the client of a request.
pub(crate) async fn authenticate(
    control: &Arc<AccessControl>,
    prefix: &PathPrefix,
    request: &Parts,
    trail: &mut Trail,
) -> Result<Caller, Error> {
    let identity = identify(control, prefix, request, &mut trail.failed_login).await?;
    Ok(Caller::new(KnownCaller { control: control.clone(), identity, prefix: prefix.clone() }))
}

async fn identify(
    control: &AccessControl,
    prefix: &PathPrefix,
    request: &Parts,
    failed: &mut Option<FailedLogin>,
) -> Result<Identity, Error> {
    let refuse = || {
        let refusal = Refusal { control, prefix, request };
        Err(refusal.unauthorized(LOG_IN, None, Some(ChallengeError::InvalidToken)))
    };
    let field = match AuthorizationField::parse(&request.headers) {
        Ok(field) => field,
        Err(AuthorizationError::Repeated) => return Err(Error::RepeatedAuthorization),
        // Where there are no users, no credentials can be wrong.
        Err(_) if !control.authenticator.knows_users() => AuthorizationField::Absent,
        Err(error) => {
            let reason = error.to_string();
            *failed = Some(FailedLogin { user: error.into_user(), reason });
            return refuse();
        }
    };
    let credentials = field.credentials().filter(|_| control.authenticator.knows_users());
    let Some(credentials) = credentials else {
        return Ok(control.authenticator.identify_connection(&request.extensions));
    };
    if matches!(credentials, Credentials::Basic { .. }) {
        cleartext::warn_of_password(request);
    }
    match control.authenticator.authenticate(credentials, client_address(control, request)).await {
        // A token without a subject is also that of a client certificate, over a connection that has one.
        Ok(token) if token.name.is_none() && matches!(token.proof, IdentityProof::OwnToken { .. }) => {
            let identity = control.authenticator.identify_connection(&request.extensions);
            let proof = if identity.is_anonymous() { token.proof } else { identity.proof };
            Ok(Identity { name: identity.name, proof, ceiling: token.ceiling })
        }
        Ok(identity) => Ok(identity),
        Err(error) => {
            *failed = Some(FailedLogin::new(credentials, &error));
            match error {
                AuthenticationError::Invalid { .. } => refuse(),
                AuthenticationError::TooManyAttempts { retry_after_seconds } => {
                    Err(Error::TooManyAttempts { retry_after_seconds })
                }
            }
        }
    }
}

/// Returns the address of the client, if the server knows it.
pub(crate) fn client_address(control: &AccessControl, request: &Parts) -> Option<ClientAddress> {
    let peer = request.extensions.get::<Peer>().copied();
    crate::client_address::find(peer, &request.headers, &control.trusted_proxies)
}

/// Fails unless the client may do what the request asks for.
pub(crate) fn authorize(caller: &Caller, request: &Parts, asked: AskedAccess<'_>) -> Result<(), Error> {
    let Some(known) = caller.known() else { return Ok(()) };
    let refusal = Refusal { control: &known.control, prefix: &known.prefix, request };
    match (asked.action, asked.route.name()) {
        (AccessAction::ListRepositories, _) => refusal.unless_lists(&known.identity),
        // Without a refusal here, clients would take every password for a valid one.
        (AccessAction::Ping, _) if known.identity.proof == IdentityProof::Anonymous => {
            match refusal.unauthorized(LOG_IN, None, None) {
                Error::Denied { .. } => Ok(()),
                error => Err(error),
            }
        }
        (AccessAction::Ping, _) | (_, None) => Ok(()),
        (AccessAction::Pull, Some(name)) if asked.is_builtin && caller.may_read_builtin(name) => Ok(()),
        (action, Some(name)) => unless_permitted(caller, request, name, needed(action, asked.method)),
    }
}

/// Fails unless the client has all of these rights in a repository.
pub(crate) fn unless_permitted(
    caller: &Caller,
    request: &Parts,
    repository: &RepositoryName,
    rights: &[Right],
) -> Result<(), Error> {
    let Some(known) = caller.known() else { return Ok(()) };
    let refusal = Refusal { control: &known.control, prefix: &known.prefix, request };
    let decisions = || rights.iter().map(|right| caller.decide(repository, *right));
    let scope = Scope::Repository(repository, rights);
    if decisions().any(|decision| decision == Decision::NotGranted) {
        return Err(if known.identity.is_anonymous() {
            refusal.unauthorized(LOG_IN, Some(scope), Some(ChallengeError::InsufficientScope))
        } else {
            denied(&known.identity, Some(scope))
        });
    }
    if decisions().all(Decision::is_granted) {
        Ok(())
    } else {
        Err(refusal.beyond_ceiling(&known.identity, scope))
    }
}

/// Returns the rights in its repository that a request needs.
pub(crate) const fn needed(action: AccessAction, method: Method) -> &'static [Right] {
    match (action, method) {
        (AccessAction::Push, Method::Read | Method::Delete) => &[Right::Push],
        (AccessAction::Push, _) => &[Right::Pull, Right::Push],
        (AccessAction::Delete, _) => &[Right::Delete],
        (AccessAction::Ping | AccessAction::ListRepositories | AccessAction::Pull, _) => &[Right::Pull],
    }
}

/// Refusal of a request.
#[derive(Clone, Copy)]
struct Refusal<'a> {
    control: &'a AccessControl,
    prefix: &'a PathPrefix,
    request: &'a Parts,
}

impl Refusal<'_> {
    /// Fails unless the client may list repositories, of which it sees those that it may read.
    fn unless_lists(self, identity: &Identity) -> Result<(), Error> {
        if identity.is_anonymous()
            && identity.proof != IdentityProof::ExternalToken
            && !self.control.serves_anonymous()
        {
            return Err(self.unauthorized(
                LOG_IN,
                Some(Scope::Catalog),
                Some(ChallengeError::InsufficientScope),
            ));
        }
        match &identity.ceiling {
            Some(ceiling) if !ceiling.permits_catalog() => Err(self.beyond_ceiling(identity, Scope::Catalog)),
            _ => Ok(()),
        }
    }

    fn beyond_ceiling(self, identity: &Identity, scope: Scope<'_>) -> Error {
        if identity.ceiling.as_ref().is_some_and(|ceiling| ceiling.can_be_widened(scope)) {
            self.unauthorized(INSUFFICIENT, Some(scope), Some(ChallengeError::InsufficientScope))
        } else {
            denied(identity, Some(scope))
        }
    }

    /// Returns the refusal with a challenge; without one if no credentials help.
    fn unauthorized(
        self,
        message: &'static str,
        scope: Option<Scope<'_>>,
        error: Option<ChallengeError>,
    ) -> Error {
        match self.control.challenge.to_header_value(self.request, self.prefix, scope, error) {
            Ok(Some(challenge)) => {
                Error::Unauthorized(Box::new(Unauthorized { message, challenge, asked: asked(scope) }))
            }
            Ok(None) => denied(&Identity::anonymous(), scope),
            Err(error) => error.into(),
        }
    }
}

/// Returns the refusal that no credentials of this user lift. Names what the client has sent, and nothing of the
/// content.
fn denied(identity: &Identity, scope: Option<Scope<'_>>) -> Error {
    let who = identity.name.as_deref().unwrap_or("this client");
    let message = match scope {
        None => DENIED.into(),
        Some(Scope::Catalog) => format!("{DENIED}: {who} may not list repositories"),
        Some(Scope::Repository(name, rights)) => {
            let action = match rights.last() {
                Some(Right::Push) => "push to",
                Some(Right::Overwrite) => "move existing tags of",
                Some(Right::Delete) => "delete in",
                Some(Right::Admin) => "administer",
                Some(Right::Pull) | None => "pull from",
            };
            format!("{DENIED}: {who} may not {action} {name}")
        }
    };
    Error::Denied { message: message.into(), asked: asked(scope) }
}

/// Lists the actions of a scope.
fn asked(scope: Option<Scope<'_>>) -> Vec<AskedAction> {
    let action = |kind, name: &str, action| AskedAction { kind, class: "", name: name.to_owned(), action };
    match scope {
        None => Vec::new(),
        Some(Scope::Catalog) => vec![action("registry", "catalog", "*")],
        Some(Scope::Repository(name, rights)) => {
            rights.iter().map(|right| action("repository", name.as_str(), right.as_str())).collect()
        }
    }
}

#[cfg(test)]
mod tests;
