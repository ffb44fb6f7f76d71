//! Content of an object: its beginning in memory, the rest read from the store when it is needed.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::StreamExt as _;
use quinistry_oci::{Content, ReadAt};
use quinistry_store::{Key, ObjectTag, StorageError};

use super::reading::{ReadingPlace, Source};
use super::{Bucket, failed, io_error, tag};
use crate::ObjectErrorKind;
use crate::objects::present;

/// Bytes that are read when an object is opened: most are links, configs and manifests, and then whole.
const OPENED_BYTES: u64 = 64 * 1024;

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
        let source = Source {
            objects: self.0.objects.clone(),
            runtime: self.0.runtime.clone(),
            memory: self.0.memory.clone(),
            key: key.to_string(),
            version,
        };
        Content::new(RemoteObject { source: Arc::new(source), length, reading: Arc::default() })
    }
}

/// An object that is read when it is needed. One that was replaced is an error.
struct RemoteObject {
    source: Arc<Source>,
    length: u64,
    /// State of the reader that goes on where it ended.
    reading: Arc<ReadingPlace>,
}

impl fmt::Debug for RemoteObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { key, version, .. } = &*self.source;
        let mut debug = f.debug_struct("RemoteObject");
        debug
            .field("key", key)
            .field("version", version)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl ReadAt for RemoteObject {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, mut range: Range<u64>) -> io::Result<Bytes> {
        let end = range.end;
        let first = self.read_on(range.clone(), end)?;
        range.start += first.len() as u64;
        if range.is_empty() {
            return Ok(first);
        }
        let mut all = BytesMut::from(first);
        while !range.is_empty() {
            let next = self.read_on(range.clone(), end)?;
            range.start += next.len() as u64;
            all.extend_from_slice(&next);
        }
        Ok(all.freeze())
    }

    fn read_on(&self, range: Range<u64>, end: u64) -> io::Result<Bytes> {
        let read = self.reading.read(&self.source, range, end);
        self.source.runtime.block_on(read).map_err(io_error)
    }

    fn try_read_at(&self, range: Range<u64>) -> Option<Bytes> {
        self.reading.try_read(&self.source, range)
    }
}
