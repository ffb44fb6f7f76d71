//! Tokens: the same ones given to distribution and to this program, a token server of the usual form, and
//! distribution as a verifier of this program's tokens.

mod signer;
mod token_server;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use self::signer::{Signer, encode, now};
use self::token_server::TokenServer;
use crate::program::{Given, Place, Program, Registry};
use crate::support::process::output;
use crate::support::skip::missing;

const CRANE: &str = "crane";

/// Configuration of a registry that accepts the tokens of another server.
const VERIFIER: &str = "version: 0.1\n\
                        log: {accesslog: {disabled: true}}\n\
                        storage: {filesystem: {rootdirectory: '{root}'}}\n\
                        http: {addr: '{addr}'}\n\
                        auth:\n  token:\n    realm: http://localhost:1/token\n    service: registry\n    \
                        issuer: issuer\n    jwks: '{folder}/jwks.json'\n    rootcertbundle: '{folder}/bundle.pem'\n";

fn claims() -> Value {
    json!({
        "iss": "issuer", "aud": "registry", "sub": "alice", "exp": now() + 300, "nbf": now() - 10, "iat": now(),
        "jti": "1", "access": [{"type": "repository", "name": "a", "actions": ["pull"]}],
    })
}

/// A token that was changed, and whether distribution and this program accept it.
struct Changed {
    name: &'static str,
    token: String,
    accepted_by_distribution: bool,
    accepted_here: bool,
}

/// Makes the changed tokens of a signer whose key is known as `ed`.
#[expect(clippy::too_many_lines, reason = "a list of tokens, each in a line or two")]
fn changed(signer: &Signer) -> Vec<Changed> {
    let mut all = Vec::new();
    let mut add = |name, token, (accepted_by_distribution, accepted_here)| {
        all.push(Changed { name, token, accepted_by_distribution, accepted_here });
    };
    let usual_header = || json!({"typ": "JWT", "alg": "EdDSA", "kid": "ed"});
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signer.sign(&usual_header(), &claims)
    };
    let with_header = |name: &str, value: Value| {
        let mut header = usual_header();
        header[name] = value;
        signer.sign(&header, &claims())
    };
    let lacking = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        signer.sign(&usual_header(), &claims)
    };
    let both = |is: bool| (is, is);
    let valid = signer.sign(&usual_header(), &claims());
    let parts: Vec<&str> = valid.split('.').collect();
    let other = Signer::random();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&other.public())});

    add("unchanged", valid.clone(), both(true));
    add("without nbf", lacking("nbf"), both(true));
    add("without iat", lacking("iat"), both(true));
    add("without jti", lacking("jti"), both(true));
    add("of an anonymous client", with("sub", json!("")), both(true));
    add("with an unknown claim", with("extra", json!({"a": [1]})), both(true));
    add("with an audience of several", with("aud", json!(["other", "registry"])), both(true));
    add("expired within the leeway", with("exp", json!(now() - 30)), both(true));
    add("valid within the leeway", with("nbf", json!(now() + 30)), both(true));
    add("with a typ of its own", with_header("typ", json!("at+jwt")), both(true));
    add("another issuer", with("iss", json!("other")), both(false));
    add("without an issuer", lacking("iss"), both(false));
    add("another audience", with("aud", json!("other")), both(false));
    add("without an audience", lacking("aud"), both(false));
    add("an empty list of audiences", with("aud", json!([])), both(false));
    add("an audience that is an object", with("aud", json!({})), both(false));
    add("expired", with("exp", json!(now() - 3600)), both(false));
    add("without an end", lacking("exp"), both(false));
    add("an end that is a text", with("exp", json!("1")), both(false));
    add("not valid yet", with("nbf", json!(now() + 3600)), both(false));
    add("without access", lacking("access"), both(false));
    add(
        "access to another repository",
        with("access", json!([{"type": "repository", "name": "b", "actions": ["pull"]}])),
        both(false),
    );
    add(
        "access to every repository",
        with("access", json!([{"type": "repository", "name": "*", "actions": ["pull"]}])),
        both(false),
    );
    add(
        "access of another type",
        with("access", json!([{"type": "registry", "name": "a", "actions": ["pull"]}])),
        both(false),
    );
    add(
        "another action",
        with("access", json!([{"type": "repository", "name": "a", "actions": ["push"]}])),
        both(false),
    );
    add("access that is null", with("access", json!(null)), both(false));
    add("access that is a text", with("access", json!("*")), both(false));
    add("no algorithm", format!("{}.{}.", encode(br#"{"alg":"none","kid":"ed"}"#), parts[1]), both(false));
    add("no algorithm, with a signature", with_header("alg", json!("none")), both(false));
    add("another algorithm", with_header("alg", json!("ES256")), both(false));
    add(
        "an HMAC over the public key",
        signer.sign_as_secret(&json!({"alg": "HS256", "kid": "ed"}), &claims()),
        both(false),
    );
    add("an unknown kid", with_header("kid", json!("other")), both(false));
    add("a kid that is a path", with_header("kid", json!("../../etc/passwd")), both(false));
    add("a kid that is a number", with_header("kid", json!(1)), both(false));
    add("no kid", signer.sign(&json!({"alg": "EdDSA"}), &claims()), both(false));
    add("a signature of another key", other.sign(&usual_header(), &claims()), both(false));
    add(
        "the attacker's key in the token",
        other.sign(&json!({"alg": "EdDSA", "jwk": jwk}), &claims()),
        both(false),
    );
    add(
        "the attacker's key beside a kid",
        other.sign(&json!({"alg": "EdDSA", "kid": "ed", "jwk": jwk}), &claims()),
        both(false),
    );
    add(
        "a chain that is not one",
        other.sign(&json!({"alg": "EdDSA", "x5c": ["AAAA"]}), &claims()),
        both(false),
    );
    add("a critical extension", with_header("crit", json!(["exp"])), both(false));
    add("a signature that is cut", valid[..valid.len() - 4].to_owned(), both(false));
    add("no signature", format!("{}.{}.", parts[0], parts[1]), both(false));
    add("two parts", format!("{}.{}", parts[0], parts[1]), both(false));
    add("four parts", format!("{valid}.{}", parts[2]), both(false));
    add("padding", format!("{}.{}.{}==", parts[0], parts[1], parts[2]), both(false));
    add(
        "changed claims",
        format!("{}.{}.{}", parts[0], encode(with("sub", json!("root")).as_bytes()), parts[2]),
        both(false),
    );
    add(
        "an action of all",
        with("access", json!([{"type": "repository", "name": "a", "actions": ["*"]}])),
        both(true),
    );
    // Differences, each for a reason.
    add(
        "a name that stands twice",
        signer.sign_text(
            &usual_header().to_string(),
            &claims().to_string().replacen('{', r#"{"aud":"registry","#, 1),
        ),
        both(false),
    );
    add("a subject with a colon", with("sub", json!("a:b")), (true, false));
    add("a subject of two lines", with("sub", json!("a\nb")), (true, false));
    add("a negative nbf", with("nbf", json!(-1)), (true, false));
    all
}

fn write_keys(place: &Place, signer: &Signer) {
    let key =
        json!({"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": encode(&signer.public()), "use": "sig"});
    fs::write(place.path("jwks.json"), json!({"keys": [key]}).to_string()).unwrap();
    fs::write(place.path("bundle.pem"), include_str!("../../src/registry/auth/token/tests/root.pem"))
        .unwrap();
}

#[test]
fn changed_tokens_get_the_verdicts_of_distribution() {
    let signer = Signer::random();
    let start = |program| {
        let place = Place::new();
        write_keys(&place, &signer);
        let registry = place.serve(program, Given { file: Some(VERIFIER), ..Given::default() })?;
        Some((place, registry))
    };
    let Some((_third_place, third)) = start(Program::Third) else { return };
    let (_our_place, ours) = start(Program::Ours).unwrap();
    let accepts = |registry: &Registry, token: &str| {
        let bearer = format!("Bearer {token}");
        let answer = registry.peer.ask("GET", "/v2/a/tags/list", &[("Authorization", &bearer)], b"");
        match answer.status {
            // A client that may read learns that the repository does not exist.
            404 => true,
            401 => false,
            status => panic!("{status} for {token}"),
        }
    };
    let tokens = changed(&signer);
    assert!(tokens.len() >= 40, "{}", tokens.len());
    let mut wrong = Vec::new();
    for token in &tokens {
        let found = (accepts(&third, &token.token), accepts(&ours, &token.token));
        let expected = (token.accepted_by_distribution, token.accepted_here);
        if found != expected {
            wrong.push(format!(
                "{}: distribution and this program say {found:?}, not {expected:?}",
                token.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Host of a registry. crane sends no password to a token server whose address is one of a private network.
fn host(registry: &Registry) -> String {
    format!("localhost:{}", registry.peer.0.port())
}

/// Runs crane with the credentials of a folder; `None` if it is not there.
fn crane(folder: &Path, arguments: &[&str]) -> Option<Result<String, String>> {
    let mut command = Command::new(CRANE);
    command.args(arguments).env("DOCKER_CONFIG", folder).env("HOME", folder);
    let Ok(done) = output(&mut command) else {
        missing(CRANE);
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) })
}

/// Writes credentials as `docker login` does.
fn log_in(folder: &Path, registries: &[&str], user: &str, password: &str) {
    use base64::Engine as _;

    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let auths: serde_json::Map<String, Value> =
        registries.iter().map(|registry| ((*registry).to_owned(), json!({"auth": auth}))).collect();
    fs::write(folder.join("config.json"), json!({"auths": auths}).to_string()).unwrap();
}

/// The line of an htpasswd file for alice, whose password is `password`.
const ALICE: &str = "alice:$2y$10$N8qllDSuwHKO62EfhkYd7OPsDqtpMhPVgbm/g2LqRRwZ2AhVQSOPe\n";

#[test]
fn distribution_accepts_the_tokens_that_this_registry_issues() {
    let ours = Place::new();
    fs::write(ours.path("users"), ALICE).unwrap();
    fs::write(ours.path("token.pem"), include_str!("../../src/registry/auth/token/tests/leaf.key")).unwrap();
    let file = "version: 0.1\n\
                log: {accesslog: {disabled: true}}\n\
                storage: {filesystem: {rootdirectory: '{root}'}}\n\
                http: {addr: '{addr}'}\n\
                auth: {htpasswd: {realm: r, path: '{folder}/users'}}\n\
                quinistry: {tokens: {enabled: true, key: '{folder}/token.pem', services: [third]}}\n";
    let issuer = ours.serve_ours(Given { file: Some(file), ..Given::default() });
    let third = Place::new();
    let keys = issuer.peer.get("/v2/_token/jwks.json");
    assert_eq!(keys.status, 200);
    fs::write(third.path("jwks.json"), &keys.body).unwrap();
    let file = format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: '{{root}}'}}}}\nhttp: {{addr: '{{addr}}'}}\n\
         auth:\n  token:\n    realm: http://localhost:{}/v2/_token\n    service: third\n    issuer: quinistry\n    \
         jwks: '{{folder}}/jwks.json'\n",
        issuer.peer.0.port()
    );
    let Some(verifier) = third.serve(Program::Third, Given { file: Some(&file), ..Given::default() }) else {
        return;
    };
    let (from, to) = (host(&issuer), host(&verifier));
    let folder = tempfile::tempdir().unwrap();
    log_in(folder.path(), &[&from, &to], "alice", "password");
    let (source, target) = (format!("{from}/quinistry:latest"), format!("{to}/team/quinistry:1"));
    let Some(copied) = crane(folder.path(), &["copy", "--insecure", &source, &target]) else { return };
    copied.unwrap();
    let digest = |image: &str| crane(folder.path(), &["digest", "--insecure", image]).unwrap().unwrap();
    assert_eq!(digest(&source), digest(&target));
    log_in(folder.path(), &[&from, &to], "alice", "wrong");
    let refused = crane(folder.path(), &["digest", "--insecure", &target]).unwrap().unwrap_err();
    assert!(refused.contains("401") || refused.contains("UNAUTHORIZED"), "{refused}");
}

#[test]
fn a_removed_user_and_a_changed_password_end_a_token() {
    let place = Place::new();
    fs::write(place.path("users"), ALICE).unwrap();
    let file = "version: 0.1\n\
                storage: {filesystem: {rootdirectory: '{root}'}}\n\
                http: {addr: '{addr}', secret: s}\n\
                auth: {htpasswd: {realm: r, path: '{folder}/users'}}\n\
                quinistry: {tokens: {enabled: true}}\n";
    let registry = place.serve_ours(Given { file: Some(file), ..Given::default() });
    let challenge = registry.peer.get("/v2/");
    assert_eq!(challenge.status, 401);
    let expected = "Bearer realm=\"http://registry.test/v2/_token\",service=\"quinistry\"";
    assert_eq!(challenge.header("www-authenticate"), Some(expected));
    let form = b"grant_type=password&username=alice&password=password&service=quinistry&scope=repository:a:pull,push";
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let issued = registry.peer.ask("POST", "/v2/_token", &kind, form);
    assert_eq!(issued.status, 200, "{}", issued.text());
    let bearer = format!("Bearer {}", issued.json()["token"].as_str().unwrap());
    let ask = || registry.peer.ask("GET", "/v2/a/tags/list", &[("Authorization", &bearer)], b"").status;
    assert_eq!(ask(), 404);
    // A SIGHUP keeps the token: nothing about its user has changed.
    fs::write(place.path("users"), format!("{ALICE}bob:x\n")).unwrap();
    registry.wait_for_log("htpasswd", 1);
    assert_eq!(ask(), 404);
    fs::write(place.path("users"), "").unwrap();
    let deadline = std::time::Instant::now() + crate::support::http::TEST_TIMEOUT;
    while ask() != 401 {
        assert!(std::time::Instant::now() < deadline, "the token of a removed user is accepted");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn clients_push_and_pull_by_the_tokens_of_a_server_as_docker_auth_forms_them() {
    let server = TokenServer::start("alice", "password");
    let place = Place::new();
    fs::write(place.path("bundle.pem"), token_server::CERTIFICATE).unwrap();
    let file = format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: '{{root}}'}}}}\nhttp: {{addr: '{{addr}}'}}\n\
         auth:\n  token:\n    realm: http://localhost:{}/auth\n    service: registry\n    issuer: issuer\n    \
         rootcertbundle: '{{folder}}/bundle.pem'\n",
        server.address().port()
    );
    let registry = place.serve_ours(Given { file: Some(&file), ..Given::default() });
    let host = host(&registry);
    let folder = tempfile::tempdir().unwrap();
    let image = format!("{host}/team/quinistry:1");
    let source = format!("{host}/quinistry:latest");
    log_in(folder.path(), &[&host], "alice", "password");
    let Some(copied) = crane(folder.path(), &["copy", "--insecure", &source, &image]) else { return };
    copied.unwrap();
    assert!(
        crane(folder.path(), &["ls", "--insecure", &format!("{host}/team/quinistry")])
            .unwrap()
            .unwrap()
            .contains('1')
    );
    log_in(folder.path(), &[&host], "alice", "wrong");
    crane(folder.path(), &["digest", "--insecure", &image]).unwrap().unwrap_err();
    assert!(server.requests() >= 3, "the clients asked it");
}
