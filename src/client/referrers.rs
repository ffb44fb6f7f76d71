//! What refers to an image, and the deletion of images.

use reqwest::header::{ACCEPT, HeaderValue, LINK};
use reqwest::{Method, StatusCode};

use crate::oci::{Descriptor, Digest, ImageIndex, ImageReference, Tag, media_type};

use super::request::{self, Call};
use super::{Client, ClientError, Document, MAX_MANIFEST, headers};

/// A thousand pages of what refers to one image; a registry that goes on is broken or hostile.
const MAX_PAGES: usize = 1000;

impl Client {
    /// The descriptors of what refers to a manifest of the image's repository. A registry that does not know the question
    /// is asked for the tag that clients leave instead (distribution-spec, section Referrers Tag Schema).
    pub async fn referrers(
        &self,
        image: &ImageReference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let what = format!("list what refers to {subject} in {}/{repository}", image.host());
        let protocol = |reason: &str| ClientError::Protocol { what: what.clone(), reason: reason.into() };
        let mut url = endpoint.url(&format!("/v2/{repository}/referrers/{subject}"));
        let mut all = Vec::new();
        for page in 0..MAX_PAGES {
            let mut call = Call::new(&what, &endpoint, Method::GET, url.clone()).scope(&repository, "pull");
            call.headers.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
            let answer = self.send(&call).await?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND if page == 0 => return self.tagged_referrers(image, subject).await,
                _ => return Err(request::failure(&what, answer).await),
            }
            let mut links = answer.headers().get_all(LINK).iter().filter_map(|field| field.to_str().ok());
            let next = links.find_map(headers::next_link).map(str::to_owned);
            let body = request::read(&what, answer, MAX_MANIFEST).await?;
            let index: ImageIndex =
                serde_json::from_slice(&body).map_err(|_| protocol("not the JSON of an index"))?;
            all.extend(index.manifests);
            match next {
                None => return Ok(all),
                Some(next) => match url.join(&next) {
                    Ok(next) if endpoint.is_origin_of(&next) => url = next,
                    _ => return Err(protocol("the list goes on at another host")),
                },
            }
        }
        Err(protocol("the list does not end"))
    }

    async fn tagged_referrers(
        &self,
        image: &ImageReference,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ClientError> {
        let hex = &subject.hex()[..subject.hex().len().min(64)];
        let tag: Tag =
            format!("{}-{hex}", subject.algorithm().as_str()).parse().expect("such a name is a tag");
        let tagged =
            ImageReference::new(image.host(), image.repository().clone(), crate::oci::Reference::Tag(tag))
                .expect("the host comes from a reference");
        if self.head_manifest(&tagged, "pull").await?.is_none() {
            return Ok(Vec::new());
        }
        match self.manifest(&tagged).await?.document()? {
            Document::Index(index) => Ok(index.manifests),
            Document::Image(_) => Ok(Vec::new()),
        }
    }

    /// Deletes a tag, or a manifest with all of its tags.
    pub async fn delete(&self, image: &ImageReference) -> Result<(), ClientError> {
        let endpoint = self.endpoint(image.host())?;
        let repository = endpoint.repository(image);
        let url = endpoint.url(&format!("/v2/{repository}/manifests/{}", image.reference()));
        let what = format!("delete {image}");
        let call = Call::new(what, &endpoint, Method::DELETE, url).scope(&repository, "pull,push,delete");
        let done = [StatusCode::ACCEPTED, StatusCode::OK, StatusCode::NO_CONTENT];
        self.send_for(&call, &done).await.map(drop)
    }
}
