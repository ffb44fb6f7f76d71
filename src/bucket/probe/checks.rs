//! The checks of a probe. Each uses keys of its own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use quinistry_oci::Digest;

use super::ProbeError;
use crate::{
    Condition, ListingQuery, Multipart, ObjectError, ObjectErrorKind, Objects, RemovalFence, SignedMethod,
    StoreTime,
};

/// Number of races of two creations.
const RACES: usize = 3;

/// Least length of a part that is not the last.
const PART_BYTES: usize = 5 << 20;

/// Validity of a signed URL that is used at once.
const EXPIRY: Duration = Duration::from_mins(1);

/// Version that no object has.
const NO_VERSION: &str = "00000000000000000000000000000000";

type Checked<T> = Result<T, ObjectError>;

pub(super) struct Checks<'a> {
    pub(super) objects: &'a dyn Objects,
    pub(super) client: Option<&'a reqwest::Client>,
    pub(super) folder: &'a str,
}

/// Returns true if a condition did not hold, and false if the change happened all the same.
fn is_refused<T>(changed: Checked<T>) -> Checked<bool> {
    match changed {
        Ok(_) => Ok(false),
        Err(error) if error.kind == ObjectErrorKind::Precondition => Ok(true),
        Err(error) => Err(error),
    }
}

/// Returns the error of a signed URL, which is not shown.
fn unusable_url(error: reqwest::Error) -> ObjectError {
    ObjectError {
        kind: ObjectErrorKind::Unknown,
        message: "failed to use a signed URL".to_owned(),
        source: Some(std::io::Error::other(error.without_url())),
    }
}

// === impl Checks ===

impl Checks<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    async fn put(&self, key: &str, body: &'static str) -> Checked<()> {
        self.objects.put(key, body.into(), Condition::Always).await.map(drop)
    }

    async fn create(&self, key: &str, body: &'static str) -> Checked<bool> {
        let created = self.objects.put(key, body.into(), Condition::Absent).await;
        is_refused(created).map(|is_refused| !is_refused)
    }

    async fn read(&self, key: &str) -> Checked<Vec<u8>> {
        let object = self.objects.get(key, None, None).await?;
        let chunks: Vec<Bytes> = object.body.try_collect().await?;
        Ok(chunks.concat())
    }

    /// Writes, reads and looks up an object: what every registry needs.
    pub(super) async fn objects_are_kept(&self) -> Result<(), ProbeError> {
        let key = self.key("kept");
        let unusable = ProbeError::Unusable;
        self.put(&key, "kept").await.map_err(unusable)?;
        let (read, length) = tokio::join!(self.read(&key), self.objects.head(&key));
        let (read, meta) = (read.map_err(unusable)?, length.map_err(unusable)?);
        if read == b"kept" && meta.length == 4 { Ok(()) } else { Err(ProbeError::OtherBytes) }
    }

    /// Creates an object twice, and lets two creations race.
    pub(super) async fn creates(&self) -> Checked<bool> {
        let key = self.key("created");
        if !self.create(&key, "first").await? || self.create(&key, "second").await? {
            return Ok(false);
        }
        if self.read(&key).await? != b"first" {
            return Ok(false);
        }
        let races: Vec<_> = (0..RACES).map(|race| self.race(race)).collect();
        Ok(try_join_all(races).await?.into_iter().all(|has_one_winner| has_one_winner))
    }

    /// Lets two creations race. Returns true if exactly one of them succeeds, and its bytes are there.
    async fn race(&self, race: usize) -> Checked<bool> {
        let key = self.key(&format!("raced-{race}"));
        let (one, other) = tokio::join!(self.create(&key, "one"), self.create(&key, "other"));
        let winner = match (one?, other?) {
            (true, false) => &b"one"[..],
            (false, true) => b"other",
            _ => return Ok(false),
        };
        Ok(self.read(&key).await? == winner)
    }

    /// Lists objects after they were written and after one was removed, in pages and from after a key.
    pub(super) async fn lists(&self) -> Result<(), ProbeError> {
        let unusable = ProbeError::Unusable;
        // In the order of their bytes, the slash is between the full stop and the zero.
        let names = ["list/a-b/x", "list/a.b/x", "list/a/x", "list/a0/x"];
        let keys = names.map(|name| self.key(name));
        let puts: Vec<_> = keys.iter().map(|key| self.put(key, "x")).collect();
        try_join_all(puts).await.map_err(unusable)?;
        let (all, _) = self.list(None, 10).await?;
        let mut sorted = all.clone();
        sorted.sort_unstable();
        if sorted != names {
            return Err(ProbeError::StaleLists);
        }
        let (page, is_truncated) = self.list(None, 2).await?;
        // The key after which a page begins need not exist.
        let after = self.key("list/a.c");
        let (rest, _) = self.list(Some(&after), 10).await?;
        if all != names || page != names[..2] || !is_truncated || rest != names[2..] {
            return Err(ProbeError::UnsortedLists);
        }
        let removed = self.objects.delete(&self.key(names[0]), Condition::Always, None).await;
        removed.map_err(unusable)?;
        if self.list(None, 10).await?.0 == names[1..] { Ok(()) } else { Err(ProbeError::StaleLists) }
    }

    /// Returns the names in a page of the folder of lists, and true if more follow.
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<(Vec<String>, bool), ProbeError> {
        let prefix = self.key("list/");
        let query = ListingQuery { prefix: &prefix, after, limit };
        let page = self.objects.list(query).await.map_err(ProbeError::Unusable)?;
        let beneath = |key: &String| key.strip_prefix(self.folder)?.strip_prefix('/').map(str::to_owned);
        let names = page.entries.iter().filter_map(|(key, _)| beneath(key)).collect();
        Ok((names, page.is_truncated))
    }

    pub(super) async fn removes_if_unchanged(&self) -> Checked<bool> {
        let key = self.key("removed-if");
        self.put(&key, "x").await?;
        let version = self.objects.head(&key).await?.version;
        // Google's versions are numbers.
        let other = match &version[..] {
            "1" => "2",
            number if number.len() < 32 && number.bytes().all(|byte| byte.is_ascii_digit()) => "1",
            _ => NO_VERSION,
        };
        if !is_refused(self.objects.delete(&key, Condition::Version(other), None).await)? {
            return Ok(false);
        }
        if self.read(&key).await? != b"x" {
            return Ok(false);
        }
        let removed = self.objects.delete(&key, Condition::Version(&version), None).await;
        Ok(!is_refused(removed)? && self.is_absent(&key).await?)
    }

    pub(super) async fn removes_many(&self) -> Checked<bool> {
        let keys = ["many/a", "many/b&<>\"'"].map(|name| self.key(name));
        for key in &keys {
            self.put(key, "x").await?;
        }
        let lost = self.objects.delete_many(&keys).await?;
        if let Some((_, error)) = lost.into_iter().next() {
            return Err(error);
        }
        Ok(self.is_absent(&keys[0]).await? && self.is_absent(&keys[1]).await?)
    }

    pub(super) async fn copies(&self) -> Checked<bool> {
        let [from, to] = ["copied/from", "copied/to +%"].map(|name| self.key(name));
        self.put(&from, "copied").await?;
        self.objects.copy(&from, &to).await?;
        Ok(self.read(&to).await? == b"copied")
    }

    /// Ends an upload whose key is present, and copies a range into one. Returns both outcomes.
    pub(super) async fn parts(&self) -> (Checked<bool>, Checked<bool>) {
        tokio::join!(self.completes_if_absent(), self.copies_parts())
    }

    async fn completes_if_absent(&self) -> Checked<bool> {
        let key = self.key("completed");
        self.put(&key, "first").await?;
        let id = self.objects.create_multipart(&key).await?;
        let upload = Multipart { key: &key, id: &id };
        let part = self.objects.put_part(upload, 1, "second".into()).await?;
        let is_refused = is_refused(self.objects.complete(upload, &[part], Condition::Absent).await);
        // An upload that was refused would stay.
        let aborted = self.objects.abort(upload).await;
        let is_refused = is_refused?;
        aborted?;
        Ok(is_refused && self.read(&key).await? == b"first")
    }

    async fn copies_parts(&self) -> Checked<bool> {
        let [from, to] = ["ranges/from", "ranges/to"].map(|name| self.key(name));
        self.put(&from, "0123456789").await?;
        let id = self.objects.create_multipart(&to).await?;
        let upload = Multipart { key: &to, id: &id };
        let copied = async {
            let part = self.objects.copy_part(upload, 1, &from, 2..5).await?;
            self.objects.complete(upload, &[part], Condition::Always).await
        };
        let copied = copied.await;
        let aborted = self.objects.abort(upload).await;
        copied?;
        aborted?;
        Ok(self.read(&to).await? == b"234")
    }

    /// Ends an upload of parts of different lengths, as R2 refuses it.
    pub(super) async fn takes_unequal_parts(&self) -> Checked<bool> {
        let key = self.key("unequal");
        let id = self.objects.create_multipart(&key).await?;
        let upload = Multipart { key: &key, id: &id };
        let completed = async {
            let mut parts = Vec::new();
            for (number, length) in [(1, PART_BYTES), (2, PART_BYTES + (1 << 20)), (3, 1)] {
                parts.push(self.objects.put_part(upload, number, vec![b'x'; length].into()).await?);
            }
            self.objects.complete(upload, &parts, Condition::Always).await
        };
        let completed = completed.await;
        let aborted = self.objects.abort(upload).await;
        match completed {
            Ok(_) => {}
            Err(error) if error.kind == ObjectErrorKind::Refused => return Ok(false),
            Err(error) => return Err(error),
        }
        aborted?;
        let expected = 2 * PART_BYTES + (1 << 20) + 1;
        Ok(self.objects.head(&key).await?.length == expected as u64)
    }

    /// Sends the request of a signed URL for an absent object. A store that takes the signature says that there is none.
    pub(super) async fn answers_urls(&self) -> Checked<bool> {
        let Some(client) = self.client else { return Ok(false) };
        // Credentials are fetched by a request that is not signed in its URL.
        self.is_absent(&self.key("absent")).await?;
        let Some(url) = self.objects.sign(SignedMethod::Get, &self.key("absent"), EXPIRY) else {
            return Ok(false);
        };
        Ok(client.get(&url).send().await.map_err(unusable_url)?.status() == 404)
    }

    /// Sends the requests of signed URLs, whole and for a range; `None` if nothing can sign or send them.
    pub(super) async fn signs_urls(&self) -> Checked<Option<bool>> {
        let key = self.key("signed/a-b_c.d");
        let Some(client) = self.client else { return Ok(None) };
        self.put(&key, "signed").await?;
        let sign = |method| self.objects.sign(method, &key, EXPIRY);
        let (Some(get), Some(head)) = (sign(SignedMethod::Get), sign(SignedMethod::Head)) else {
            return Ok(Some(false));
        };
        let whole = client.get(&get).send().await.map_err(unusable_url)?;
        let is_whole = whole.status() == 200 && whole.bytes().await.map_err(unusable_url)? == "signed";
        let part = client.get(&get).header("range", "bytes=1-2").send().await.map_err(unusable_url)?;
        let is_part = part.status() == 206 && part.bytes().await.map_err(unusable_url)? == "ig";
        let looked_up = client.head(&head).send().await.map_err(unusable_url)?;
        Ok(Some(is_whole && is_part && looked_up.status() == 200))
    }

    /// Sends a removal that comes too late; `None` if the time of the store is unknown.
    pub(super) async fn fences_removals(&self) -> Checked<Option<bool>> {
        match self.objects.removal_fence() {
            RemovalFence::Expiry => self.expires_removals().await,
            RemovalFence::Version => self.renews_versions().await.map(Some),
        }
    }

    /// Sends a removal whose signature has expired.
    async fn expires_removals(&self) -> Checked<Option<bool>> {
        let key = self.key("fenced");
        self.put(&key, "fenced").await?;
        let Some(StoreTime(now)) = self.objects.now() else { return Ok(None) };
        let expired = StoreTime(now - Duration::from_mins(1));
        match self.objects.delete(&key, Condition::Always, Some(expired)).await {
            Ok(()) => Ok(Some(false)),
            Err(error) if matches!(error.kind, ObjectErrorKind::Denied | ObjectErrorKind::Refused) => {
                let is_kept = self.read(&key).await? == b"fenced";
                self.objects.delete(&key, Condition::Always, Some(StoreTime(now))).await?;
                Ok(Some(is_kept && self.is_absent(&key).await?))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a version, writes the same bytes again, and sends the removal once more. Then replaces these by the same
    /// bytes, and sends the removal of theirs.
    async fn renews_versions(&self) -> Checked<bool> {
        let key = self.key("fenced");
        let write = async || {
            self.put(&key, "fenced").await?;
            self.objects.head(&key).await.map(|meta| meta.version)
        };
        let remove = async |version: &str| {
            is_refused(self.objects.delete(&key, Condition::Version(version), None).await)
        };
        let first = write().await?;
        let is_removed = !remove(&first).await? && self.is_absent(&key).await?;
        let second = write().await?;
        let is_kept = remove(&first).await? && self.read(&key).await? == b"fenced";
        let third = write().await?;
        let is_kept = is_kept && remove(&second).await? && self.read(&key).await? == b"fenced";
        Ok(is_removed && is_kept && third != second && second != first)
    }

    /// Sends a body with the hash of another; `None` if the store is told no hashes.
    pub(super) async fn verifies_sha256(&self) -> Checked<Option<bool>> {
        if !self.objects.sends_sha256() {
            return Ok(None);
        }
        let key = self.key("hashed");
        let put = async |hashed: &[u8]| {
            let sha256 = Digest::sha256(hashed);
            self.objects
                .put_hashed(&key, Bytes::from_static(b"bytes").into(), Condition::Always, Some(&sha256))
                .await
        };
        match put(b"others").await {
            Ok(_) => return Ok(Some(false)),
            Err(error) if error.kind == ObjectErrorKind::Refused => {}
            Err(error) => return Err(error),
        }
        let is_kept_out = self.is_absent(&key).await?;
        put(b"bytes").await?;
        Ok(Some(is_kept_out && self.read(&key).await? == b"bytes"))
    }

    async fn is_absent(&self, key: &str) -> Checked<bool> {
        match self.objects.head(key).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind == ObjectErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes what the probe has written.
    pub(super) async fn clean(&self) -> Checked<()> {
        let prefix = format!("{}/", self.folder);
        let page = self.objects.list(ListingQuery { prefix: &prefix, after: None, limit: 1000 }).await?;
        let keys: Vec<String> = page.entries.into_iter().map(|(key, _)| key).collect();
        if keys.is_empty() || self.objects.delete_many(&keys).await.is_ok_and(|lost| lost.is_empty()) {
            return Ok(());
        }
        let removals: Vec<_> =
            keys.iter().map(|key| self.objects.delete(key, Condition::Always, None)).collect();
        try_join_all(removals).await.map(drop)
    }
}
