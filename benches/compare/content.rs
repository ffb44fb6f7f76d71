//! Blobs and manifests that are all distinct, and incompressible, though they are made in no time.

use quinistry::oci::{Algorithm, Digest, Hasher, media_type};

/// How long a blob's pattern is before it begins again.
const PATTERN: usize = 1 << 20;

/// What all blobs consist of but for their first bytes.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<u8>);

/// A blob, whose first bytes nobody else has.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    first: [u8; 8],
    pub(crate) size: usize,
    pub(crate) digest: Digest,
}

impl Pattern {
    pub(crate) fn new() -> Self {
        // Xorshift: incompressible is all that it must be.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let words = (0..PATTERN / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(words.collect())
    }

    /// A blob of at least 8 bytes; the same for the same number and size.
    pub(crate) fn blob(&self, size: usize, number: u64) -> Blob {
        let mut blob = Blob { first: number.to_le_bytes(), size, digest: Digest::sha256(b"") };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for piece in self.pieces(&blob) {
            hasher.update(piece);
        }
        blob.digest = hasher.finish();
        blob
    }

    pub(crate) fn blobs(&self, size: usize, count: usize, first: u64) -> Vec<Blob> {
        (first..).take(count).map(|number| self.blob(size, number)).collect()
    }

    /// Its bytes, in order.
    pub(crate) fn pieces<'a>(&'a self, blob: &'a Blob) -> Vec<&'a [u8]> {
        let mut pieces = vec![&blob.first[..]];
        let mut left = blob.size - 8;
        let mut from = 8;
        while left > 0 {
            let piece = &self.0[from..PATTERN.min(from + left)];
            left -= piece.len();
            from = 0;
            pieces.push(piece);
        }
        pieces
    }
}

/// The configuration of all images here.
pub(crate) const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

/// An image of such layers; distinct by its number.
pub(crate) fn manifest(layers: &[&Blob], number: u64) -> Vec<u8> {
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

/// An artifact that refers to a manifest; distinct by its number.
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
