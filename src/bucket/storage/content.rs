//! Content of an object: its beginning in memory, the rest read from the store when it is needed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _};
use quinistry_oci::{Content, ReadAt};
use quinistry_store::{Key, ObjectTag, StorageError};
use tokio::runtime::Handle;

use super::{Bucket, failed, io_error, present, tag};
use crate::{ObjectError, ObjectErrorKind, Objects};

/// Bytes that are read when an object is opened: most are links, configs and manifests, and then whole.
const OPENED_BYTES: u64 = 64 * 1024;

/// Longest range of one request. What a reader does not take of it is lost.
const REQUEST_BYTES: u64 = 64 * 1024 * 1024;

impl Bucket {
    /// Opens an object by reading its beginning.
    pub(super) async fn open_object(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        let found = match self.objects().get(key.as_str(), Some(0..OPENED_BYTES), None).await {
            // The object is empty.
            Err(error) if error.kind == ObjectErrorKind::OutOfRange => {
                self.objects().get(key.as_str(), None, None).await
            }
            found => found,
        };
        let Some(mut object) = present(found).map_err(failed("open", key))? else { return Ok(None) };
        let mut beginning = BytesMut::new();
        while let Some(chunk) = object.body.next().await {
            beginning.extend_from_slice(&chunk.map_err(failed("open", key))?);
        }
        let (length, read) = (object.meta.length, beginning.len() as u64);
        let tag = tag(&object.meta);
        let beginning = Content::from([beginning.freeze()]);
        if read >= length {
            return Ok(Some((beginning, tag)));
        }
        let rest = self.remote_content(key, object.meta.version, length).slice(read..length);
        Ok(Some(([beginning, rest].into_iter().collect(), tag)))
    }

    /// Returns the content of an object, of which nothing was read.
    pub(super) fn remote_content(&self, key: &Key, version: String, length: u64) -> Content {
        Content::new(RemoteObject {
            objects: self.0.objects.clone(),
            runtime: self.0.runtime.clone(),
            key: key.to_string(),
            version,
            length,
            stream: Mutex::default(),
        })
    }
}

/// An object that is read when it is needed. One that was replaced is an error.
struct RemoteObject {
    objects: Arc<dyn Objects>,
    runtime: Handle,
    key: String,
    version: String,
    length: u64,
    /// Body of the last request, for the reader that goes on where it ended.
    stream: Mutex<Option<Stream>>,
}

struct Stream {
    /// Offset of the next byte, those in `rest` included.
    next: u64,
    end: u64,
    /// Bytes that were received and not read.
    rest: Bytes,
    body: BoxStream<'static, Result<Bytes, ObjectError>>,
}

impl fmt::Debug for RemoteObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, version, length, .. } = self;
        let mut debug = f.debug_struct("RemoteObject");
        debug.field("key", key).field("version", version).field("length", length).finish_non_exhaustive()
    }
}

impl ReadAt for RemoteObject {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.runtime.block_on(self.read(range)).map_err(io_error)
    }
}

impl RemoteObject {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let kept = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stream = match kept.filter(|stream| stream.next == range.start && stream.next < stream.end) {
            Some(stream) => stream,
            None => self.request(range.start).await?,
        };
        let wanted = usize::try_from(range.end - range.start).expect("a chunk is in memory");
        let mut bytes = BytesMut::with_capacity(wanted);
        while bytes.len() < wanted {
            if stream.rest.is_empty() {
                match stream.body.next().await {
                    Some(chunk) => stream.rest = chunk?,
                    None => stream = self.request(range.start + bytes.len() as u64).await?,
                }
                continue;
            }
            let taken = stream.rest.len().min(wanted - bytes.len());
            bytes.extend_from_slice(&stream.rest.split_to(taken));
            stream.next += taken as u64;
        }
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(bytes.freeze())
    }

    async fn request(&self, from: u64) -> Result<Stream, ObjectError> {
        let end = self.length.min(from + REQUEST_BYTES);
        let object = self.objects.get(&self.key, Some(from..end), None).await?;
        if object.meta.version != self.version || object.range != (from..end) {
            let message = format!("GET {}: the object was replaced while it was read", self.key);
            return Err(ObjectError::new(ObjectErrorKind::Refused, message));
        }
        Ok(Stream { next: from, end, rest: Bytes::new(), body: object.body })
    }
}
