//! Blobs and manifests that are distinct, incompressible and cheap to make.

use quinistry::oci::{Algorithm, Digest, Hasher, media_type};

/// Length of the pattern that blobs repeat, in bytes.
const PATTERN_BYTES: usize = 1 << 20;

/// Bytes that all blobs share, except for their first eight.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<u8>);

/// A blob with a distinct beginning.
#[derive(Clone, Debug)]
pub(crate) struct GeneratedBlob {
    first: [u8; 8],
    pub(crate) size: usize,
    pub(crate) digest: Digest,
}

impl Pattern {
    pub(crate) fn new() -> Self {
        // Xorshift: the bytes need only be incompressible.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let words = (0..PATTERN_BYTES / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(words.collect())
    }

    /// Makes a blob of at least 8 bytes; equal numbers and sizes make equal blobs.
    pub(crate) fn blob(&self, size: usize, number: u64) -> GeneratedBlob {
        let mut blob = GeneratedBlob { first: number.to_le_bytes(), size, digest: Digest::sha256(b"") };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for chunk in self.chunks(&blob) {
            hasher.update(chunk);
        }
        blob.digest = hasher.finish();
        blob
    }

    pub(crate) fn blobs(&self, size: usize, count: usize, first: u64) -> Vec<GeneratedBlob> {
        (first..).take(count).map(|number| self.blob(size, number)).collect()
    }

    /// Returns the bytes of a blob, in order.
    pub(crate) fn chunks<'a>(&'a self, blob: &'a GeneratedBlob) -> Vec<&'a [u8]> {
        let mut chunks = vec![&blob.first[..]];
        let mut left = blob.size - 8;
        let mut from = 8;
        while left > 0 {
            let chunk = &self.0[from..PATTERN_BYTES.min(from + left)];
            left -= chunk.len();
            from = 0;
            chunks.push(chunk);
        }
        chunks
    }
}

/// Configuration of all images of this bench.
pub(crate) const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

/// Makes an image of these layers, distinct by its number.
pub(crate) fn manifest(layers: &[&GeneratedBlob], number: u64) -> Vec<u8> {
    let layers: Vec<String> = layers.iter().map(|blob| descriptor(&blob.digest, blob.size)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{}],"annotations":{{"number":"{number}"}}}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
        Digest::sha256(CONFIG),
        CONFIG.len(),
        layers.join(",")
    )
    .into_bytes()
}

/// Makes an artifact that refers to a manifest, distinct by its number.
pub(crate) fn referrer(subject: &[u8], number: u64) -> Vec<u8> {
    let of = format!(
        r#","artifactType":"application/vnd.example.signature","subject":{{"mediaType":"{}","digest":"{}","size":{}}}}}"#,
        media_type::OCI_MANIFEST,
        Digest::sha256(subject),
        subject.len()
    );
    let mut bytes = manifest(&[], number);
    bytes.pop();
    bytes.extend_from_slice(of.as_bytes());
    bytes
}

fn descriptor(digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}}}"#, media_type::OCI_LAYER_TAR)
}
