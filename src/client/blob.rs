//! Blob as a stream that checks its digest and resumes where a connection broke.

use std::time::Instant;

use bytes::Bytes;
use quinistry_oci::{Descriptor, Digest, Hasher, ImageReference};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::bounds::Throughput;
use super::endpoint::Endpoint;
use super::request::{self, Call};
use super::{Client, ClientError, headers, retry};

/// Number of bytes after which a connection that breaks resets the count of attempts. The blob's size then
/// bounds the attempts.
const MIN_PROGRESS_BYTES: u64 = 1024 * 1024;

/// Stream of one blob. The bytes are proven only when [`next`](Self::next) has returned `None`.
#[derive(Debug)]
pub struct BlobStream {
    client: Client,
    endpoint: Endpoint,
    repository: String,
    what: String,
    digest: Digest,
    size: u64,
    taken: u64,
    hasher: Option<Hasher>,
    answer: Option<Response>,
    /// Number of bytes to skip, because the server sends them again.
    skip: u64,
    failures: u32,
    /// Value of `taken` at the last failure.
    taken_at_failure: u64,
    throughput: Throughput,
    /// True if the registry has refused a range of this blob.
    refuses_ranges: bool,
}

impl Client {
    /// Opens a blob of the image's repository.
    pub async fn blob(&self, image: &ImageReference, blob: &Descriptor) -> Result<BlobStream, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let mut stream = BlobStream {
            client: self.clone(),
            what: format!("fetch blob {} from {}/{repository}", blob.digest, image.host()),
            endpoint,
            repository,
            digest: blob.digest.clone(),
            size: blob.size,
            taken: 0,
            hasher: Some(Hasher::new(blob.digest.algorithm())),
            answer: None,
            skip: 0,
            failures: 0,
            taken_at_failure: 0,
            throughput: Throughput::default(),
            refuses_ranges: false,
        };
        stream.connect().await?;
        self.remember(image, &blob.digest);
        Ok(stream)
    }

    /// Looks up a blob of the image's repository; `None` if the registry does not have it there.
    pub async fn find_blob(
        &self,
        image: &ImageReference,
        digest: &Digest,
    ) -> Result<Option<Descriptor>, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let what = format!("look up blob {digest} at {}/{repository}", image.host());
        let url = endpoint.url(&format!("/v2/{repository}/blobs/{digest}"));
        let call = Call::new(&what, &endpoint, Method::HEAD, url).scope(&repository, "pull");
        let answer = self.send(&call).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let length = super::manifest::text(answer.headers(), CONTENT_LENGTH.as_str());
                let size = length.and_then(|length| length.parse().ok());
                let reason = || "the answer does not tell the length of the blob".to_owned();
                let size =
                    size.ok_or_else(|| ClientError::Protocol { what: what.clone(), reason: reason() })?;
                let blob = Descriptor::of("application/octet-stream", b"");
                Ok(Some(Descriptor { digest: digest.clone(), size, ..blob }))
            }
            _ => Err(request::failure(&what, answer).await),
        }
    }

    /// Fetches a small blob, such as a configuration, into memory.
    pub async fn small_blob(&self, image: &ImageReference, blob: &Descriptor) -> Result<Bytes, ClientError> {
        if blob.size > super::MAX_MANIFEST_BYTES {
            let what = format!("fetch blob {}", blob.digest);
            return Err(ClientError::TooLarge { what, limit: super::MAX_MANIFEST_BYTES });
        }
        self.blob(image, blob).await?.read_to_end().await
    }
}

// === impl BlobStream ===

impl BlobStream {
    /// Returns the next piece, or `None` once all bytes have come and hash to the digest.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while self.hasher.is_some() {
            let Some(answer) = &mut self.answer else {
                self.connect().await?;
                continue;
            };
            let began = Instant::now();
            let result = match request::piece(&self.what, answer).await {
                Ok(None) if self.taken < self.size => {
                    let actual = self.taken;
                    Err(ClientError::Size { what: self.what.clone(), expected: self.size, actual })
                }
                // All bytes have come, so an error at the end of the connection does not matter.
                Err(_) if self.taken == self.size => Ok(None),
                Ok(Some(piece)) if !self.throughput.note(began.elapsed(), piece.len()) => {
                    Err(Throughput::error(&self.what))
                }
                result => result,
            };
            match result {
                Ok(Some(mut piece)) => {
                    let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
                    self.skip -= known as u64;
                    let piece = piece.split_off(known);
                    if !piece.is_empty() {
                        return self.take(piece).map(Some);
                    }
                }
                Ok(None) => {
                    let actual = self.hasher.take().expect("looked at above").finish();
                    self.answer = None;
                    if actual != self.digest {
                        let (what, expected) = (self.what.clone(), self.digest.clone());
                        return Err(ClientError::Digest { what, expected, actual });
                    }
                }
                Err(error) => self.pause(error).await?,
            }
        }
        Ok(None)
    }

    /// Reads the rest of the blob into memory and checks the digest. The caller has checked the size.
    pub async fn read_to_end(mut self) -> Result<Bytes, ClientError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    fn take(&mut self, piece: Bytes) -> Result<Bytes, ClientError> {
        self.taken += piece.len() as u64;
        if self.taken > self.size {
            return Err(ClientError::Size {
                what: self.what.clone(),
                expected: self.size,
                actual: self.taken,
            });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        Ok(piece)
    }

    /// Waits before the next attempt, or returns the failure if there is none left.
    async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.answer = None;
        if self.client.shared.peers {
            return Err(error);
        }
        if self.taken - self.taken_at_failure >= MIN_PROGRESS_BYTES {
            self.failures = 0;
        }
        self.taken_at_failure = self.taken;
        self.failures += 1;
        let wait = retry::wait(self.failures, None).ok_or(error)?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let answer = match self.request().await? {
            answer if matches!(answer.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) => answer,
            answer if self.resumes() && answer.status().is_client_error() => {
                // The registry refuses this range or all ranges: from the start again, past the bytes that
                // have come.
                drop(answer);
                self.refuses_ranges = true;
                let answer = self.request().await?;
                if answer.status() != StatusCode::OK {
                    return Err(request::failure(&self.what, answer).await);
                }
                answer
            }
            answer => return Err(request::failure(&self.what, answer).await),
        };
        self.skip = self.taken;
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            let range = super::manifest::text(answer.headers(), CONTENT_RANGE.as_str())
                .and_then(headers::content_range);
            let fits = range.is_some_and(|(first, _, total)| {
                first == self.taken && total.is_none_or(|total| total == self.size)
            });
            if !fits {
                let reason = format!("asked for the rest from byte {} and got another part", self.taken);
                return Err(ClientError::Protocol { what: self.what.clone(), reason });
            }
            self.skip = 0;
        } else if let Some(length) = answer.content_length()
            && length != self.size
        {
            return Err(ClientError::Size { what: self.what.clone(), expected: self.size, actual: length });
        }
        self.answer = Some(answer);
        Ok(())
    }

    fn resumes(&self) -> bool {
        self.taken > 0 && !self.refuses_ranges
    }

    /// Requests the rest of the blob, or all of it where the registry refuses ranges.
    async fn request(&self) -> Result<Response, ClientError> {
        let url = self.endpoint.url(&format!("/v2/{}/blobs/{}", self.repository, self.digest));
        let mut call =
            Call::new(&self.what, &self.endpoint, Method::GET, url).scope(&self.repository, "pull");
        if self.resumes() {
            let range = HeaderValue::try_from(format!("bytes={}-", self.taken)).expect("digits are ASCII");
            call.headers.insert(RANGE, range);
        }
        self.client.send(&call).await
    }
}
