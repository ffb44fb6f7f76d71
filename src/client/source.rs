//! Sources of images to push: files of this machine, or another registry.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quinistry_oci::layout::Layout;
use quinistry_oci::media_type::{is_index, is_manifest};
use quinistry_oci::{Descriptor, Digest, Hasher, ImageReference};

use super::{BlobStream, BoxError, Client, ClientError, MAX_MANIFEST_BYTES, Manifest};

/// Length of a piece of a local file.
const LOCAL_PIECE_BYTES: usize = 256 * 1024;

/// Source of an image to push.
pub trait PushSource: Send + Sync {
    /// Returns the descriptor of the image's manifest or index.
    fn root(&self) -> &Descriptor;

    /// Locates a blob, a manifest or an index by its digest. May be called more than once for each, and may
    /// block for as long as opening a local file does. The caller checks the content against the digest.
    fn open(&self, digest: &Digest) -> Result<BlobLocation, BoxError>;

    /// Returns manifests in the same place that may refer to the image. Those that do are pushed with it.
    fn referrers(&self) -> Vec<Descriptor> {
        Vec::new()
    }
}

/// Location of one blob, manifest or index.
pub enum BlobLocation {
    /// Content on this machine. Reading may block for as long as a local file does.
    Local(Box<dyn Read + Send>),
    /// Content in the repository of this image.
    Remote(Client, ImageReference),
}

/// Image of a [`Layout`].
#[derive(Debug)]
pub struct LayoutSource<'a> {
    layout: &'a Layout,
    root: &'a Descriptor,
}

/// Image in a registry.
#[derive(Debug)]
pub struct RemoteSource {
    client: Client,
    image: ImageReference,
    root: Descriptor,
}

// === impl LayoutSource ===

impl<'a> LayoutSource<'a> {
    /// Creates the source of the image with this root.
    #[must_use]
    pub const fn new(layout: &'a Layout, root: &'a Descriptor) -> Self {
        Self { layout, root }
    }
}

impl PushSource for LayoutSource<'_> {
    fn root(&self) -> &Descriptor {
        self.root
    }

    fn open(&self, digest: &Digest) -> Result<BlobLocation, BoxError> {
        Ok(BlobLocation::Local(Box::new(self.layout.open_blob(digest)?)))
    }

    fn referrers(&self) -> Vec<Descriptor> {
        let others = self.layout.roots().iter().map(|root| &root.descriptor);
        let others = others.filter(|other| other.digest != self.root.digest);
        others
            .filter(|other| is_manifest(&other.media_type) || is_index(&other.media_type))
            .cloned()
            .collect()
    }
}

// === impl RemoteSource ===

impl RemoteSource {
    /// Resolves the image's name to its present content.
    pub async fn find(client: &Client, image: &ImageReference) -> Result<Self, ClientError> {
        let root = client.resolve(image).await?;
        Ok(Self { client: client.clone(), image: image.clone(), root })
    }
}

impl RemoteSource {
    /// Creates the source of the manifest with this digest in the image's repository.
    pub(super) fn new(client: &Client, image: &ImageReference, root: Descriptor) -> Self {
        Self { client: client.clone(), image: image.clone(), root }
    }
}

impl PushSource for RemoteSource {
    fn root(&self) -> &Descriptor {
        &self.root
    }

    fn open(&self, _: &Digest) -> Result<BlobLocation, BoxError> {
        Ok(BlobLocation::Remote(self.client.clone(), self.image.clone()))
    }
}

/// Reads a manifest of an image to push, and checks it against its digest.
pub(super) async fn read_manifest(
    source: &dyn PushSource,
    descriptor: &Descriptor,
) -> Result<Manifest, ClientError> {
    let digest = &descriptor.digest;
    let what = || format!("read manifest {digest} of the image to push");
    let failed = |source| ClientError::Source { digest: digest.clone(), source };
    let reader = match source.open(digest).map_err(failed)? {
        BlobLocation::Remote(client, image) => {
            return client.manifest(&image.with_digest(digest.clone())).await;
        }
        BlobLocation::Local(reader) => reader,
    };
    let mut bytes = Vec::new();
    reader.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.into()))?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ClientError::TooLarge { what: what(), limit: MAX_MANIFEST_BYTES });
    }
    let actual = Digest::of(digest.algorithm(), &bytes);
    if actual != *digest {
        return Err(ClientError::Digest { what: what(), expected: digest.clone(), actual });
    }
    Manifest::new(actual, &descriptor.media_type, bytes.into())
        .map_err(|reason| ClientError::Protocol { what: what(), reason })
}

/// Bytes of a blob, piece by piece. Fails before the last piece is given out if they do not match the
/// descriptor.
pub(super) struct CheckedPieces {
    reader: PieceReader,
    blob: Descriptor,
    /// Hasher of the bytes so far; `None` once all have come.
    hasher: Option<Hasher>,
    left: u64,
    failure: SourceFailure,
}

enum PieceReader {
    Local(Box<dyn Read + Send>),
    Unopened(Client, ImageReference),
    Remote(Box<BlobStream>),
}

/// Error of a source, kept here because the HTTP library reports it as a broken connection only.
#[derive(Clone, Default)]
pub(super) struct SourceFailure(Arc<Mutex<Option<BoxError>>>);

impl SourceFailure {
    /// Takes the error, if there is one.
    pub(super) fn take(&self) -> Option<BoxError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, error: BoxError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl CheckedPieces {
    pub(super) fn new(location: BlobLocation, blob: &Descriptor, failure: SourceFailure) -> Self {
        let reader = match location {
            BlobLocation::Local(reader) => PieceReader::Local(reader),
            BlobLocation::Remote(client, image) => PieceReader::Unopened(client, image),
        };
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Self { reader, blob: blob.clone(), hasher, left: blob.size, failure }
    }

    /// Returns the next piece and the rest, or `None` at the end. An error is also kept in `failure`.
    pub(super) async fn next(mut self) -> Option<(Result<Bytes, String>, Option<Self>)> {
        match self.advance().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(self))),
            Err(error) => {
                let text = error.to_string();
                self.failure.put(error);
                Some((Err(text), None))
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, BoxError> {
        let Some(mut hasher) = self.hasher.take() else { return Ok(None) };
        let piece = self.read().await?;
        hasher.update(&piece);
        let came = piece.len() as u64;
        self.left = self.left.checked_sub(came).ok_or("content is longer than its descriptor says")?;
        if self.left == 0 {
            let actual = hasher.finish();
            if actual != self.blob.digest {
                return Err(format!("content does not match its digest: got {actual}").into());
            }
        } else if came == 0 {
            return Err("content is shorter than its descriptor says".into());
        } else {
            self.hasher = Some(hasher);
        }
        Ok(if piece.is_empty() { None } else { Some(piece) })
    }

    async fn read(&mut self) -> Result<Bytes, BoxError> {
        if let PieceReader::Unopened(client, image) = &self.reader {
            let stream = client.blob(image, &self.blob).await?;
            self.reader = PieceReader::Remote(Box::new(stream));
        }
        match &mut self.reader {
            // A piece of a local file is there at once.
            PieceReader::Local(reader) => {
                let length = usize::try_from(self.left).unwrap_or(LOCAL_PIECE_BYTES).min(LOCAL_PIECE_BYTES);
                let mut piece = vec![0; length];
                reader.read_exact(&mut piece)?;
                Ok(piece.into())
            }
            PieceReader::Remote(stream) => Ok(stream.next().await?.unwrap_or_default()),
            PieceReader::Unopened(..) => unreachable!("it was opened above"),
        }
    }
}
