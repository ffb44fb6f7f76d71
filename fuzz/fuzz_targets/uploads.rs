//! Uploads: any sequence of a client's requests for sessions and blobs in two repositories. A model predicts
//! each response's kind and offset, and the blobs that exist at the end.
//!
//! An input is a sequence of steps, which `quinistry_fuzz::step` reads.

#![no_main]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LOCATION};
use http::{Method, Request};
use http_body::Frame;
use libfuzzer_sys::fuzz_target;
use quinistry::oci::{Algorithm, Digest, ErrorCode};
use quinistry_fuzz::step::{AnnouncedDigest, InputReader, SessionReference, Step, announced, content_range};
use quinistry_fuzz::upload::{PredictedEffect, Upload, predict_effect};
use quinistry_fuzz::{Answer, BodyTransfer, DIGEST, Registry, request, run};
use tokio::sync::oneshot;

/// Two repositories, one with a name below the other.
const REPOSITORIES: [&str; 2] = ["a", "a/blobs"];

/// Limit of steps per input; more find nothing new.
const MAX_STEPS: usize = 24;

fuzz_target!(|input: &[u8]| {
    let mut choices = InputReader::new(input);
    run(async {
        let mut model = Model::new();
        for _ in 0..MAX_STEPS {
            let Some(step) = Step::read(&mut choices) else { break };
            model.perform(step).await;
        }
        model.check_everything().await;
    });
});

/// Names under which a repository has a blob: always by SHA-256.
#[derive(Clone, Copy, Debug, Default)]
struct KnownNames {
    has_sha512: bool,
}

type Blobs = BTreeMap<Vec<u8>, KnownNames>;

struct Model {
    registry: Registry,
    /// Sessions in the order of their creation.
    sessions: Vec<ModelSession>,
    /// Blobs of each repository.
    blobs: [Blobs; 2],
    /// Content that was ever sent, and one that never was.
    seen: Vec<Vec<u8>>,
}

struct ModelSession {
    repository: usize,
    upload: Upload,
    open: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            registry: Registry::new(false),
            sessions: Vec::new(),
            blobs: Default::default(),
            seen: vec![b"unknown".into()],
        }
    }

    async fn perform(&mut self, step: Step) {
        match step {
            Step::Begin { repository, algorithm } => self.begin(repository, algorithm).await,
            Step::Patch { session, range, sent } => {
                let Some(index) = self.open(session, Method::PATCH, &sent).await else { return };
                let ModelSession { upload, .. } = &mut self.sessions[index];
                let range = content_range(range, upload.bytes.len(), &sent);
                upload.patch(&self.registry, range.as_deref().map(str::as_bytes), &sent).await;
            }
            Step::Finish { session, range, sent, digest } => {
                if let Some(index) = self.open(session, Method::PUT, &sent).await {
                    self.finish(index, range, &sent, digest).await;
                }
            }
            Step::Status { session, head } => {
                let method = if head { Method::HEAD } else { Method::GET };
                let Some(index) = self.open(session, method.clone(), &empty_body()).await else { return };
                let ModelSession { upload, .. } = &self.sessions[index];
                let answer = self.registry.ask_for(method, &upload.location).await;
                assert_eq!(answer.status, 204, "{answer:?}");
                upload.assert_describes(&answer);
            }
            Step::Cancel { session } => {
                let Some(index) = self.open(session, Method::DELETE, &empty_body()).await else { return };
                let ModelSession { upload, open, .. } = &mut self.sessions[index];
                let answer = self.registry.ask_for(Method::DELETE, &upload.location).await;
                assert_eq!(answer.status, 204, "{answer:?}");
                *open = false;
            }
            Step::Forged { repository, method, id, sent } => self.forged(repository, method, id, sent).await,
            Step::Mount { repository, blob, algorithm, from } => {
                self.mount(repository, blob, algorithm, from).await;
            }
            Step::Whole { repository, sent, digest } => self.whole(repository, sent, digest).await,
            Step::Delete { repository, blob, algorithm } => self.delete(repository, blob, algorithm).await,
            Step::AtOnce { session, first, other, sent } => {
                self.concurrent(session, first, other, sent).await;
            }
        }
    }

    /// Returns the named session if it is open and the request goes to its own repository. Otherwise checks
    /// that the registry does not know it.
    async fn open(&self, named: SessionReference, method: Method, sent: &BodyTransfer) -> Option<usize> {
        let index = usize::from(named.session).checked_rem(self.sessions.len())?;
        let ModelSession { repository, upload, open } = &self.sessions[index];
        if *open && !named.in_other_repository {
            return Some(index);
        }
        let other = REPOSITORIES[if named.in_other_repository { 1 - repository } else { *repository }];
        let (_, id) = upload.location.rsplit_once('/').unwrap();
        let path = format!("/v2/{other}/blobs/uploads/{id}?digest={}", Digest::sha256(&sent.bytes()));
        let answer =
            self.registry.ask(request(method.clone(), path.parse().unwrap(), &[], sent.clone())).await;
        if method == Method::HEAD {
            assert_eq!(answer.status, 404);
        } else {
            answer.assert_refused(&[404], ErrorCode::BlobUploadUnknown);
        }
        None
    }

    async fn begin(&mut self, repository: usize, algorithm: u8) {
        let query = ["", "?digest-algorithm=sha256", "?digest-algorithm=sha512", "?digest-algorithm=md5"];
        let query = query[usize::from(algorithm)];
        let path = format!("/v2/{}/blobs/uploads/{query}", REPOSITORIES[repository]);
        let answer = self.registry.ask_for(Method::POST, &path).await;
        if algorithm == 3 {
            answer.assert_refused(&[400], ErrorCode::DigestInvalid);
        } else {
            self.opened(repository, &answer);
        }
    }

    fn opened(&mut self, repository: usize, answer: &Answer) {
        let upload = Upload::opened(REPOSITORIES[repository], answer);
        self.sessions.push(ModelSession { repository, upload, open: true });
    }

    async fn finish(&mut self, index: usize, range: u8, sent: &BodyTransfer, kind: u8) {
        let ModelSession { repository, upload, open } = &mut self.sessions[index];
        let repository = *repository;
        let range = content_range(range, upload.bytes.len(), sent);
        let range = range.as_deref().map(str::as_bytes);
        let content = [&upload.bytes[..], &sent.bytes()].concat();
        let (query, announced) = announced(kind, &content);
        let effect = predict_effect(upload.bytes.len(), range, sent);
        let answer = upload.send(&self.registry, Method::PUT, &query, range, sent).await;
        match (announced, effect) {
            // Whatever else is wrong, none of the body is taken.
            (AnnouncedDigest::Invalid, _) => {
                assert_eq!(answer.status, 400, "{answer:?}");
                upload.assert_state(&self.registry).await;
            }
            (_, PredictedEffect::Refused { kept }) => {
                upload.handle_refusal(&self.registry, &answer, sent, kept).await;
            }
            (AnnouncedDigest::Right(digest), PredictedEffect::Appended) => {
                *open = false;
                self.created(repository, &answer, content, &digest);
            }
            (AnnouncedDigest::Wrong, PredictedEffect::Appended) => {
                answer.assert_refused(&[400], ErrorCode::DigestInvalid);
                *open = false;
                self.record_content(content);
            }
        }
    }

    async fn whole(&mut self, repository: usize, sent: BodyTransfer, kind: u8) {
        let content = sent.bytes();
        let (query, announced) = announced(kind, &content);
        let path = format!("/v2/{}/blobs/uploads/{query}", REPOSITORIES[repository]);
        let cut = matches!(sent, BodyTransfer::Truncated(..));
        let answer = self.registry.ask(request(Method::POST, path.parse().unwrap(), &[], sent)).await;
        match announced {
            AnnouncedDigest::Right(digest) if !cut => self.created(repository, &answer, content, &digest),
            AnnouncedDigest::Right(_) | AnnouncedDigest::Wrong if cut => {
                answer.assert_refused(&[400], ErrorCode::SizeInvalid);
                self.record_content(content);
            }
            _ => {
                answer.assert_refused(&[400], ErrorCode::DigestInvalid);
                self.record_content(content);
            }
        }
    }

    /// Checks that a response reports the creation of a blob, and adds the blob to the model.
    fn created(&mut self, repository: usize, answer: &Answer, content: Vec<u8>, digest: &Digest) {
        assert_eq!(answer.status, 201, "{answer:?}");
        let location = format!("/v2/{}/blobs/{digest}", REPOSITORIES[repository]);
        assert_eq!(answer.header(LOCATION.as_str()), Some(&*location));
        assert_eq!(answer.header(DIGEST), Some(digest.as_str()));
        self.record_content(content.clone());
        let names = self.blobs[repository].entry(content).or_default();
        names.has_sha512 |= digest.algorithm() == Algorithm::Sha512;
    }

    fn record_content(&mut self, content: Vec<u8>) {
        if !self.seen.contains(&content) {
            self.seen.push(content);
        }
    }

    fn known_content(&self, blob: u8) -> Vec<u8> {
        self.seen[usize::from(blob) % self.seen.len()].clone()
    }

    fn has(&self, repository: usize, content: &[u8], algorithm: Algorithm) -> bool {
        self.blobs[repository]
            .get(content)
            .is_some_and(|names| algorithm == Algorithm::Sha256 || names.has_sha512)
    }

    async fn mount(&mut self, repository: usize, blob: u8, algorithm: Algorithm, from: u8) {
        let content = self.known_content(blob);
        let digest = Digest::of(algorithm, &content);
        let query = ["", "&from=a", "&from=a%2Fblobs", "&from=nowhere", "&from=..%2Fa"][usize::from(from)];
        let path = format!("/v2/{}/blobs/uploads/?mount={digest}{query}", REPOSITORIES[repository]);
        let answer = self.registry.ask_for(Method::POST, &path).await;
        let there = |repository| self.has(repository, &content, algorithm);
        let (must, may) = match from {
            // A blob that was deleted everywhere is unknown, but its bytes may still be stored.
            0 => (there(0) || there(1), content != b"unknown"),
            1 | 2 => (there(usize::from(from) - 1), false),
            _ => (false, false),
        };
        if must || (may && answer.status == 201) {
            self.created(repository, &answer, content, &digest);
        } else {
            self.opened(repository, &answer);
        }
    }

    async fn delete(&mut self, repository: usize, blob: u8, algorithm: Algorithm) {
        let content = self.known_content(blob);
        let path = format!("/v2/{}/blobs/{}", REPOSITORIES[repository], Digest::of(algorithm, &content));
        let answer = self.registry.ask_for(Method::DELETE, &path).await;
        if self.has(repository, &content, algorithm) {
            assert_eq!(answer.status, 202, "{answer:?}");
            self.blobs[repository].remove(&content);
        } else {
            answer.assert_refused(&[404], ErrorCode::BlobUnknown);
        }
    }

    /// Sends a request for an ID that the registry never issued.
    async fn forged(&self, repository: usize, method: u8, id: u8, sent: BodyTransfer) {
        let real = self.sessions.first().and_then(|session| session.upload.location.rsplit_once('/'));
        let real = real.map_or("", |(_, id)| id);
        let id = match id {
            0 => "00000000-0000-4000-8000-000000000000".into(),
            1 => format!("{{{real}}}"),
            2 => real.replace('-', ""),
            3 => format!("..%2F{real}"),
            4 => format!("{real}%00"),
            _ => format!("urn:uuid:{real}"),
        };
        // Without an ID the path is the one that creates sessions.
        if id.is_empty() {
            return;
        }
        let method = [Method::GET, Method::PATCH, Method::PUT, Method::DELETE][usize::from(method)].clone();
        let digest = Digest::sha256(&sent.bytes());
        let path = format!("/v2/{}/blobs/uploads/{id}?digest={digest}", REPOSITORIES[repository]);
        let answer = self.registry.ask(request(method, path.parse().unwrap(), &[], sent)).await;
        answer.assert_refused(&[404], ErrorCode::BlobUploadUnknown);
    }

    /// Sends another request for the same session while a chunk is being received.
    async fn concurrent(&mut self, session: u8, first: BodyTransfer, other: u8, sent: BodyTransfer) {
        let named = SessionReference { session, in_other_repository: false };
        let Some(index) = self.open(named, Method::GET, &empty_body()).await else { return };
        let ModelSession { repository, upload, open } = &mut self.sessions[index];
        let repository = *repository;
        let BodyTransfer::Sized(body) = first else { return };
        let (reached, is_reached) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let gated = Gated { reached: Some(reached), released, piece: Some(body.clone()) };
        let request =
            Request::builder().method(Method::PATCH).uri(&upload.location).header(CONTENT_LENGTH, body.len());
        let patch = request.body(Body::new(gated)).unwrap();
        let registry = self.registry.clone();
        let first = tokio::spawn(async move { registry.ask(patch).await });
        is_reached.await.expect("a chunk is read");
        let own = upload.bytes.len();
        match other {
            0 => upload.assert_state(&self.registry).await,
            1 | 2 => {
                // The request fails, whether or not it continues at the first one's end.
                let range = content_range(other, own, &sent);
                let answer = upload
                    .send(&self.registry, Method::PATCH, "", range.as_deref().map(str::as_bytes), &sent)
                    .await;
                answer.assert_refused(&[416], ErrorCode::BlobUploadInvalid);
                upload.assert_describes(&answer);
            }
            3 => {
                let answer = self.registry.ask_for(Method::DELETE, &upload.location).await;
                assert_eq!(answer.status, 204, "{answer:?}");
                drop(release);
                first.await.unwrap().assert_refused(&[404], ErrorCode::BlobUploadUnknown);
                *open = false;
                return;
            }
            _ => {}
        }
        // The request that ends the upload waits until the chunk has been received.
        let content = [&upload.bytes[..], &body, &sent.bytes()].concat();
        let last = if other == 4 && !matches!(sent, BodyTransfer::Truncated(..)) {
            let end = format!("{}?digest={}", upload.location, Digest::sha256(&content));
            let put = quinistry_fuzz::request(Method::PUT, end.parse().unwrap(), &[], sent);
            let registry = self.registry.clone();
            Some(tokio::spawn(async move { registry.ask(put).await }))
        } else {
            None
        };
        tokio::task::yield_now().await;
        drop(release);
        let answer = first.await.unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
        upload.bytes.extend(&body);
        if let Some(last) = last {
            *open = false;
            let answer = last.await.unwrap();
            self.created(repository, &answer, content.clone(), &Digest::sha256(&content));
        } else {
            upload.assert_describes(&answer);
        }
    }

    async fn check_everything(&self) {
        for session in &self.sessions {
            if session.open {
                session.upload.assert_state(&self.registry).await;
            } else {
                let answer = self.registry.ask_for(Method::GET, &session.upload.location).await;
                answer.assert_refused(&[404], ErrorCode::BlobUploadUnknown);
            }
        }
        for content in &self.seen {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = Digest::of(algorithm, content);
                for (repository, name) in REPOSITORIES.iter().enumerate() {
                    let path = format!("/v2/{name}/blobs/{digest}");
                    let answer = self.registry.ask_for(Method::GET, &path).await;
                    if self.has(repository, content, algorithm) {
                        assert_eq!(answer.status, 200, "{answer:?}");
                        assert!(answer.body == content[..], "other bytes than were pushed");
                        assert_eq!(answer.header(DIGEST), Some(digest.as_str()));
                    } else {
                        answer.assert_refused(&[404], ErrorCode::BlobUnknown);
                    }
                }
            }
        }
    }
}

fn empty_body() -> BodyTransfer {
    BodyTransfer::Sized(Bytes::new())
}

/// A body that reports when it is polled, and delivers its bytes when it is released.
struct Gated {
    reached: Option<oneshot::Sender<()>>,
    released: oneshot::Receiver<()>,
    piece: Option<Bytes>,
}

impl http_body::Body for Gated {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(reached) = self.reached.take() {
            let _ = reached.send(());
        }
        if self.piece.is_some() {
            // A dropped sender releases the body as well.
            let _ = ready!(Pin::new(&mut self.released).poll(cx));
        }
        Poll::Ready(self.piece.take().map(|piece| Ok(Frame::data(piece))))
    }
}
