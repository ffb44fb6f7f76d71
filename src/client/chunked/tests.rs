//! Uploads to scripted registries that do not take chunks, that break, and that lie.

use std::sync::Mutex;

use quinistry_oci::ImageReference;

use self::scripted_registry::{Answer, Request, ScriptedRegistry};
use super::*;
use crate::ClientOptions;

#[allow(dead_code, unreachable_pub)]
#[path = "../../../tests/support/scripted_registry.rs"]
mod scripted_registry;

/// Length of a chunk.
const CHUNK: usize = 256 * 1024;

/// Sessions of a registry, and its blob.
#[derive(Default)]
struct Sessions {
    /// Bytes of each session; `None` for a discarded one.
    all: Vec<Option<Vec<u8>>>,
    blob: Option<Vec<u8>>,
}

/// Returns the number of the session in the path of a request.
fn number(request: &Request) -> usize {
    request.path().rsplit('/').next().unwrap().parse().unwrap()
}

fn range(bytes: usize) -> String {
    format!("0-{}", bytes.saturating_sub(1))
}

// === impl Sessions ===

impl Sessions {
    /// Answers as the specification says.
    fn answer(&mut self, request: &Request) -> Answer {
        match request.method.as_str() {
            "HEAD" => match &self.blob {
                Some(blob) => Answer::ok(blob.clone()),
                None => Answer::new(404),
            },
            "POST" => {
                self.all.push(Some(Vec::new()));
                Answer::new(202).with("location", format!("/s/{}", self.all.len() - 1))
            }
            "DELETE" => {
                self.all[number(request)] = None;
                Answer::new(204)
            }
            method => {
                let Some(bytes) = &mut self.all[number(request)] else { return Answer::new(404) };
                let start = request.header("content-range").map(|range| range.split('-').next().unwrap());
                if start.is_some_and(|start| start.parse() != Ok(bytes.len())) {
                    return Answer::new(416);
                }
                bytes.extend_from_slice(&request.body);
                match method {
                    "GET" => Answer::new(204).with("range", range(bytes.len())),
                    "PATCH" => Answer::new(202).with("range", range(bytes.len())),
                    _ => {
                        self.blob = self.all[number(request)].take();
                        Answer::new(201)
                    }
                }
            }
        }
    }
}

/// Registry whose script may answer instead of its sessions.
fn registry(
    mut script: impl FnMut(&Request, &mut Sessions) -> Option<Answer> + Send + 'static,
) -> (ScriptedRegistry, Arc<Mutex<Sessions>>) {
    let sessions = Arc::new(Mutex::new(Sessions::default()));
    let shared = sessions.clone();
    let registry = ScriptedRegistry::start(move |request| {
        let sessions = &mut *shared.lock().unwrap();
        script(request, sessions).unwrap_or_else(|| sessions.answer(request))
    });
    (registry, sessions)
}

fn behaviour() -> RegistryBehaviour {
    RegistryBehaviour { chunk_bytes: CHUNK as u64, ..RegistryBehaviour::default() }
}

/// Returns a blob of some length.
fn blob(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn upload(
    registry: &ScriptedRegistry,
    behaviour: &RegistryBehaviour,
    bytes: &[u8],
    from: Option<&RepositoryName>,
) -> Result<Outcome, ClientError> {
    let client = Client::new(ClientOptions { plain_http: true, ..ClientOptions::default() }).unwrap();
    let image: ImageReference = format!("{}/a:1", registry.host).parse().unwrap();
    let blob = Descriptor::of("x", bytes);
    let target = BlobTarget::new(&client, &image, &blob).unwrap().once();
    let content = [Bytes::copy_from_slice(bytes)].into();
    ChunkedUpload::new((&client, behaviour), (&target, &blob), content, from, Arc::new(())).run().await
}

/// Returns methods and numbers of bytes of requests that have some, and of the other ones but HEAD.
fn requests(registry: &ScriptedRegistry) -> Vec<String> {
    let requests = registry.requests();
    let sent = requests.iter().filter(|request| request.method != "HEAD");
    sent.map(|request| match request.body.len() {
        0 => request.method.clone(),
        length => format!("{} {length}", request.method),
    })
    .collect()
}

#[tokio::test]
async fn a_blob_goes_whole_to_a_registry_that_refuses_chunks() {
    let whole = format!("PUT {}", CHUNK + 1);
    let first = format!("PATCH {CHUNK}");
    for status in [400, 404, 405, 416, 501] {
        let (registry, sessions) =
            registry(move |request, _| (request.method == "PATCH").then(|| Answer::new(status)));
        let bytes = blob(CHUNK + 1);
        let behaviour = behaviour();
        assert_eq!(upload(&registry, &behaviour, &bytes, None).await.unwrap(), Outcome::Transferred);
        assert_eq!(requests(&registry), ["POST", &first, "DELETE", "POST", &whole], "{status}");
        assert!(sessions.lock().unwrap().blob.as_ref() == Some(&bytes));
        // The next blob of the load is sent whole at once.
        upload(&registry, &behaviour, &bytes, None).await.unwrap();
        assert_eq!(requests(&registry)[5..], ["POST", &whole], "{status}");
    }
}

#[tokio::test]
async fn a_blob_goes_whole_to_a_registry_that_accepts_chunks_and_does_not_take_them() {
    let (registry, sessions) = registry(|request, _| {
        let answer = Answer::new(202).with("range", range(CHUNK));
        (request.method == "PATCH").then_some(answer)
    });
    let bytes = blob(2 * CHUNK + 1);
    upload(&registry, &behaviour(), &bytes, None).await.unwrap();
    let (chunk, whole) = (format!("PATCH {CHUNK}"), format!("PUT {}", bytes.len()));
    assert_eq!(requests(&registry), ["POST", &chunk, &chunk, "DELETE", "POST", &whole]);
    assert!(sessions.lock().unwrap().blob.as_ref() == Some(&bytes));
}

#[tokio::test]
async fn a_blob_goes_whole_to_a_registry_that_forgets_sessions_with_chunks() {
    let (registry, _) = registry(|request, sessions| {
        let is_later = request.method == "PATCH" && !request.header("content-range")?.starts_with("0-");
        is_later.then(|| {
            sessions.all[number(request)] = None;
            Answer::new(404)
        })
    });
    let bytes = blob(CHUNK + 9000);
    upload(&registry, &behaviour(), &bytes, None).await.unwrap();
    let (first, second) = (format!("PATCH {CHUNK}"), "PATCH 9000".to_owned());
    let whole = format!("PUT {}", bytes.len());
    let round = ["POST", &first, &second];
    assert_eq!(requests(&registry), [&round[..], &round[..], &["DELETE", "POST", &whole]].concat());
}

#[tokio::test]
async fn a_refusal_of_the_whole_blob_is_final() {
    let (registry, _) = registry(|request, _| request.body.first().map(|_| Answer::new(405)));
    let error = upload(&registry, &behaviour(), &blob(CHUNK + 1), None).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: StatusCode::METHOD_NOT_ALLOWED, .. }), "{error}");
    let whole = format!("PUT {}", CHUNK + 1);
    assert_eq!(requests(&registry)[2..], ["DELETE", "POST", &whole, "DELETE"], "sessions are discarded");
}

#[tokio::test]
async fn a_break_is_not_mistaken_for_a_refusal_and_the_next_chunk_is_small() {
    // The second chunk breaks, and is written by and by: the registry refuses others until it has come.
    let mut patches = 0;
    let (registry, sessions) = registry(move |request, sessions| {
        patches += u32::from(request.method == "PATCH");
        match (request.method.as_str(), patches) {
            ("PATCH", 2) => Some(Answer::silent()),
            ("PATCH", 3) => Some(Answer::new(416)),
            // A registry that lies once is asked again.
            ("PATCH", 4) => Some(Answer::new(202).with("range", range(CHUNK))),
            ("PATCH", 5) => {
                let late = blob(CHUNK + 9000).split_off(CHUNK);
                sessions.all[number(request)].as_mut().unwrap().extend(late);
                Some(Answer::new(416))
            }
            _ => None,
        }
    });
    let behaviour = behaviour();
    let bytes = blob(2 * CHUNK + 9000);
    upload(&registry, &behaviour, &bytes, None).await.unwrap();
    assert!(!behaviour.refuses_chunks.load(Ordering::Relaxed));
    assert!(sessions.lock().unwrap().blob.as_ref().is_some_and(|sent| sent.len() == bytes.len()));
    let (chunk, probe) = (format!("PATCH {CHUNK}"), format!("PATCH {PROBE_BYTES}"));
    let rest = format!("PATCH {}", CHUNK - 65_536);
    let tries = ["GET", &probe, "GET", &probe, "GET", &probe, "GET", &probe];
    assert_eq!(requests(&registry), [&["POST", &chunk, &chunk], &tries[..], &[&rest, "PUT"]].concat());
}

#[tokio::test]
async fn a_registry_that_is_gone_is_dialled_five_times() {
    for method in ["POST", "GET", "PATCH"] {
        let (registry, _) = registry(move |request, _| {
            let is_gone = request.method == method || (method == "GET" && request.method == "PATCH");
            is_gone.then(Answer::silent)
        });
        assert!(upload(&registry, &behaviour(), &blob(CHUNK + 1), None).await.is_err());
        let asked = requests(&registry);
        let dials = asked.iter().filter(|asked| asked.starts_with(method)).count();
        // The break before the first GET counts, too. A lost session is part of the break that loses it.
        assert_eq!(dials, if method == "GET" { 4 } else { 5 }, "{asked:?}");
    }
}

#[tokio::test]
async fn a_mount_that_fails_is_repeated_once_and_then_given_up() {
    let (registry, sessions) =
        registry(|request, _| request.target.contains("mount=").then(|| Answer::new(503)));
    let from: RepositoryName = "b".parse().unwrap();
    let bytes = blob(5);
    upload(&registry, &behaviour(), &bytes, Some(&from)).await.unwrap();
    assert_eq!(requests(&registry), ["POST", "POST", "POST", "PUT 5"]);
    assert!(sessions.lock().unwrap().blob.as_ref() == Some(&bytes));
}

#[tokio::test]
async fn a_final_error_discards_the_session() {
    let (registry, _) = registry(|request, _| (request.method == "PATCH").then(|| Answer::new(403)));
    let error = upload(&registry, &behaviour(), &blob(CHUNK + 1), None).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: StatusCode::FORBIDDEN, .. }), "{error}");
    assert_eq!(registry.asked().last().unwrap(), "DELETE /s/0");
}

#[test]
fn a_handshake_that_is_closed_is_a_break_once_a_session_was_opened() {
    let client = Client::new(ClientOptions::default()).unwrap();
    let blob = Descriptor::of("x", b"x");
    let image: ImageReference = "registry.lan/a:1".parse().unwrap();
    let target = BlobTarget::new(&client, &image, &blob).unwrap().once();
    let registry = RegistryBehaviour::default();
    let content = [Bytes::from_static(b"x")].into();
    let mut upload = ChunkedUpload::new((&client, &registry), (&target, &blob), content, None, Arc::new(()));
    let closed =
        || Fault::from(ClientError::Tls { host: "registry.lan".into(), fault: crate::tls::TlsFault::Closed });
    assert_eq!(upload.kind(&closed()), FaultKind::Final);
    registry.is_reached.store(true, Ordering::Relaxed);
    assert_eq!(upload.kind(&closed()), FaultKind::Broken);
}

#[tokio::test]
async fn the_session_of_a_dropped_upload_is_discarded_once() {
    let (sent, came) = tokio::sync::mpsc::unbounded_channel();
    let mut came = came;
    let (registry, sessions) = registry(move |request, _| {
        (request.method == "PATCH").then(|| {
            sent.send(()).unwrap();
            Answer::new(503).with("retry-after", "60")
        })
    });
    let (bytes, behaviour) = (blob(CHUNK + 1), behaviour());
    tokio::select! {
        result = upload(&registry, &behaviour, &bytes, None) => panic!("{result:?}"),
        _ = came.recv() => {}
    }
    let client = Client::new(ClientOptions { plain_http: true, ..ClientOptions::default() }).unwrap();
    for _ in 0..2 {
        behaviour.discard_abandoned(&client).await;
        assert_eq!(requests(&registry).last().unwrap(), "DELETE");
        assert_eq!(requests(&registry).iter().filter(|request| *request == "DELETE").count(), 1);
    }
    assert_eq!(sessions.lock().unwrap().all, [None]);
    upload(&registry, &behaviour, &blob(10), None).await.unwrap();
    behaviour.discard_abandoned(&client).await;
    assert_eq!(requests(&registry).last().unwrap(), "PUT 10", "a finished upload leaves no session");
}
