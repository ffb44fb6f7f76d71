//! Where the bytes of an image to push come from: files of this machine, or another registry.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quinistry_oci::layout::Layout;
use quinistry_oci::media_type::{is_index, is_manifest};
use quinistry_oci::{Descriptor, Digest, Hasher, ImageReference};

use super::{BlobStream, BoxError, Client, ClientError, MAX_MANIFEST, Manifest};

/// The size of a piece of a local file.
const PIECE: usize = 256 * 1024;

/// Where the bytes of an image to push come from.
pub trait PushSource: Send + Sync {
    /// The image's manifest or index.
    fn root(&self) -> &Descriptor;

    /// Says where a blob, a manifest or an index is, by its digest. May be asked more than once for each, and may block
    /// for as long as opening a local file does. What it gives is checked against the digest.
    fn open(&self, digest: &Digest) -> Result<Content, BoxError>;

    /// Returns manifests in the same place that may refer to the image. Those that do are pushed with it.
    fn referrers(&self) -> Vec<Descriptor> {
        Vec::new()
    }
}

/// Where one blob, manifest or index is.
pub enum Content {
    /// On this machine. Reading may block for as long as a local file does.
    Local(Box<dyn Read + Send>),
    /// In the repository of this image.
    Remote(Client, ImageReference),
}

/// One image of a [`Layout`].
#[derive(Debug)]
pub struct LayoutSource<'a> {
    layout: &'a Layout,
    root: &'a Descriptor,
}

/// An image in a registry.
#[derive(Debug)]
pub struct RemoteSource {
    client: Client,
    image: ImageReference,
    root: Descriptor,
}

// === impl LayoutSource ===

impl<'a> LayoutSource<'a> {
    /// The image with this root.
    #[must_use]
    pub const fn new(layout: &'a Layout, root: &'a Descriptor) -> Self {
        Self { layout, root }
    }
}

impl PushSource for LayoutSource<'_> {
    fn root(&self) -> &Descriptor {
        self.root
    }

    fn open(&self, digest: &Digest) -> Result<Content, BoxError> {
        Ok(Content::Local(Box::new(self.layout.open_blob(digest)?)))
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
    /// What the image's name stands for at present.
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

    fn open(&self, _: &Digest) -> Result<Content, BoxError> {
        Ok(Content::Remote(self.client.clone(), self.image.clone()))
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
        Content::Remote(client, image) => {
            return client.manifest(&image.with_digest(digest.clone())).await;
        }
        Content::Local(reader) => reader,
    };
    let mut bytes = Vec::new();
    reader.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(|error| failed(error.into()))?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(ClientError::TooLarge { what: what(), limit: MAX_MANIFEST });
    }
    let actual = Digest::of(digest.algorithm(), &bytes);
    if actual != *digest {
        return Err(ClientError::Digest { what: what(), expected: digest.clone(), actual });
    }
    Manifest::new(actual, &descriptor.media_type, bytes.into())
        .map_err(|reason| ClientError::Protocol { what: what(), reason })
}

/// The bytes of a blob, piece by piece; fails before the last one is given out, if they are not what the descriptor says.
pub(super) struct Pieces {
    from: From,
    blob: Descriptor,
    /// Of what has come; none when all has.
    hasher: Option<Hasher>,
    left: u64,
    failure: Failure,
}

enum From {
    Local(Box<dyn Read + Send>),
    Unopened(Client, ImageReference),
    Remote(Box<BlobStream>),
}

/// Why a source failed. What the other side sees is a connection that breaks.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<BoxError>>>);

impl Failure {
    /// The failure, once.
    pub(super) fn take(&self) -> Option<BoxError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Pieces {
    pub(super) fn new(content: Content, blob: &Descriptor, failure: Failure) -> Self {
        let from = match content {
            Content::Local(reader) => From::Local(reader),
            Content::Remote(client, image) => From::Unopened(client, image),
        };
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Self { from, blob: blob.clone(), hasher, left: blob.size, failure }
    }

    /// The next piece, and what is left to be asked; nothing at the end. A failure is kept for who looks for it.
    pub(super) async fn next(mut self) -> Option<(Result<Bytes, String>, Option<Self>)> {
        match self.advance().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(self))),
            Err(error) => {
                let text = error.to_string();
                *self.failure.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
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
        if let From::Unopened(client, image) = &self.from {
            let stream = client.blob(image, &self.blob).await?;
            self.from = From::Remote(Box::new(stream));
        }
        match &mut self.from {
            // A piece of a local file is there at once.
            From::Local(reader) => {
                let length = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; length];
                reader.read_exact(&mut piece)?;
                Ok(piece.into())
            }
            From::Remote(stream) => Ok(stream.next().await?.unwrap_or_default()),
            From::Unopened(..) => unreachable!("it was opened above"),
        }
    }
}
