//! Lists page by page: tags and referrers.

use std::collections::BTreeSet;

use bytes::Bytes;
use quinistry_client::{headers, next_page};
use quinistry_fetch::{SourceError, hops};
use quinistry_oci::{Descriptor, Digest, Reference, RepositoryName, Tag, media_type};
use reqwest::header::{HeaderValue, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::answer::{self, invalid};
use crate::body;
use crate::exchange::{Question, Reply};
use crate::remote::Inner;

/// Number of entries to request at once; registries may give fewer.
const PAGE_ENTRIES: usize = 1000;

/// Number of pages of a list; an upstream that goes on is broken or hostile.
const MAX_PAGES: usize = 500;

/// Length of all pages of a list together: some registries give all tags at once.
const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;

/// Number of referrers of one manifest.
const MAX_REFERRERS: usize = 10_000;

/// Length of the hex part of the tag that lists referrers; a longer one is cut off (distribution-spec).
const MAX_TAG_HEX_CHARS: usize = 64;

#[derive(Deserialize)]
struct TagsPage {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ReferrersPage {
    manifests: Option<Vec<Descriptor>>,
}

/// Pages of a list that were read, and where the next one is.
#[derive(Debug)]
struct Pages {
    question: Question,
    seen: BTreeSet<String>,
    bytes_left: u64,
}

fn tags_of_page(body: &[u8]) -> Result<Vec<Tag>, SourceError> {
    let page: TagsPage =
        serde_json::from_slice(body).map_err(|_| invalid("a list of tags that is not JSON"))?;
    // No client can ask for a tag that is none.
    Ok(page.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse().ok()).collect())
}

fn referrers_of_page(body: &[u8]) -> Result<Vec<Descriptor>, SourceError> {
    let page: ReferrersPage =
        serde_json::from_slice(body).map_err(|_| invalid("a list of referrers that is no index"))?;
    Ok(page.manifests.unwrap_or_default())
}

impl Inner {
    pub(crate) async fn tags(
        &self,
        repository: &RepositoryName,
        limit: usize,
    ) -> Result<Vec<Tag>, SourceError> {
        let mut url = self.trust.url(&format!("{repository}/tags/list"));
        let plain = url.clone();
        url.set_query(Some(&format!("n={}", limit.clamp(1, PAGE_ENTRIES))));
        let question = Self::question(Method::GET, url, repository, hops::current())?;
        let _connection = self.connections.for_question().await;
        let mut pages = Pages::new(question);
        let mut tags = Vec::new();
        let mut reply = self.ask(&pages.question).await?;
        if matches!(reply.response.status().as_u16(), 400 | 405 | 406 | 413 | 416 | 422 | 501) {
            // Some registries refuse a page longer than their own instead of giving a shorter one.
            pages.question.url = plain;
            reply = self.ask(&pages.question).await?;
        }
        loop {
            let (next, body) = pages.read(reply.expect_ok()?).await?;
            tags.extend(body::parse(body, tags_of_page).await?);
            tags.truncate(limit);
            match next {
                Some(next) if tags.len() < limit => pages.turn(next)?,
                _ => return Ok(tags),
            }
            reply = self.ask(&pages.question).await?;
        }
    }

    pub(crate) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let found = match self.api_referrers(repository, subject).await? {
            Some(found) => found,
            None => self.tagged_referrers(repository, subject).await?,
        };
        let mut seen = BTreeSet::new();
        Ok(found.into_iter().filter(|referrer| seen.insert(referrer.digest.clone())).collect())
    }

    /// Returns the upstream's own list of referrers; `None` if the upstream has no such list.
    async fn api_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, SourceError> {
        let url = self.trust.url(&format!("{repository}/referrers/{subject}"));
        let mut question = Self::question(Method::GET, url, repository, hops::current())?;
        question.accept = Some(HeaderValue::from_static(media_type::OCI_INDEX));
        let _connection = self.connections.for_question().await;
        let mut pages = Pages::new(question);
        let mut reply = match self.ask(&pages.question).await {
            // The token server may not know the API; the tag shows whether there is access at all.
            Err(SourceError::Refused) => return Ok(None),
            reply => reply?,
        };
        if matches!(reply.response.status().as_u16(), 400 | 401 | 403 | 404 | 405 | 406 | 410 | 501) {
            return Ok(None);
        }
        let mut found = Vec::new();
        loop {
            reply = reply.expect_ok()?;
            if answer::content_type(reply.response.headers()) != media_type::OCI_INDEX {
                // Another page than that of the API, such as one for browsers.
                return if pages.seen.len() == 1 {
                    Ok(None)
                } else {
                    Err(invalid("a page that is no index"))
                };
            }
            let (next, body) = pages.read(reply).await?;
            found.extend(body::parse(body, referrers_of_page).await?);
            found.truncate(MAX_REFERRERS);
            match next {
                Some(next) if found.len() < MAX_REFERRERS => pages.turn(next)?,
                _ => return Ok(Some(found)),
            }
            reply = self.ask(&pages.question).await?;
        }
    }

    /// Returns the referrers that the fallback tag lists; none if the tag does not exist or is not a list.
    /// distribution-spec, section Referrers Tag Schema.
    async fn tagged_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, SourceError> {
        let hex = &subject.hex()[..subject.hex().len().min(MAX_TAG_HEX_CHARS)];
        let tag = format!("{}-{hex}", subject.algorithm().as_str());
        let tag = Reference::Tag(tag.parse().expect("an algorithm, a hyphen and hex digits are a tag"));
        let list = match self.get_manifest(repository, &tag).await {
            Err(SourceError::NotFound) => return Ok(Vec::new()),
            list => list?,
        };
        let mut found = body::parse(list.bytes, referrers_of_page).await.unwrap_or_default();
        found.truncate(MAX_REFERRERS);
        Ok(found)
    }
}

// === impl Pages ===

impl Pages {
    fn new(question: Question) -> Self {
        let seen = BTreeSet::from([question.url.to_string()]);
        Self { question, seen, bytes_left: MAX_LIST_BYTES }
    }

    /// Reads a page. Returns the address of the next one, if any, and the bytes.
    async fn read(&mut self, reply: Reply) -> Result<(Option<Url>, Bytes), SourceError> {
        let fields = reply.response.headers();
        answer::refuse_encoding(fields)?;
        let mut links = fields.get_all(LINK).iter().filter_map(|field| field.to_str().ok());
        let next = links.find_map(headers::next_link).map(|link| {
            next_page(&self.question.url, link).ok_or_else(|| invalid("a list that goes on at another host"))
        });
        let next = next.transpose()?;
        let body = body::read(reply.response, self.bytes_left).await?;
        self.bytes_left -= body.len() as u64;
        Ok((next, body))
    }

    /// Makes the next page the one to ask for.
    fn turn(&mut self, next: Url) -> Result<(), SourceError> {
        if self.seen.len() >= MAX_PAGES {
            return Err(invalid(format!("a list of more than {MAX_PAGES} pages")));
        }
        if !self.seen.insert(next.to_string()) {
            return Err(invalid("a list that leads back to an earlier page"));
        }
        self.question.url = next;
        Ok(())
    }
}
