//! Helpers of the client's tests.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use quinistry::client::{
    Client, ClientError, ClientOptions, DockerConfig, LayoutSource, Progress, PushReport,
};
use quinistry::layout::{Format, Layout, Target, Writer};
use quinistry::oci::{Descriptor, ImageReference};

use super::images::{Image, Packing};
use super::scripted_registry::{Answer, Request, ScriptedRegistry};

/// user:hunter2
pub const LOGIN: &str = "dXNlcjpodW50ZXIy";

pub fn client() -> Client {
    Client::new(ClientOptions::default()).unwrap()
}

pub fn reference(host: &str, rest: &str) -> ImageReference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Returns the answer of an honest registry that holds one image.
pub fn honest(image: &Image, request: &Request) -> Answer {
    let manifest = |bytes: &[u8], descriptor: &Descriptor| {
        Answer::ok(bytes)
            .with("content-type", &descriptor.media_type)
            .with("docker-content-digest", &descriptor.digest)
    };
    let last = request.path().rsplit('/').next().unwrap();
    if request.path().contains("/manifests/") && (last == "latest" || last == image.digest().as_str()) {
        return manifest(&image.manifest, &image.descriptor);
    }
    let blob = image.blobs().find(|(descriptor, _)| descriptor.digest.as_str() == last);
    blob.map_or_else(|| Answer::new(404), |(_, bytes)| Answer::ok(bytes.clone()))
}

pub fn image() -> Image {
    Image::new("amd64", &["one", "two"], Packing::Gzip)
}

/// A registry with its own token server, which wants user:hunter2.
pub fn with_tokens() -> ScriptedRegistry {
    ScriptedRegistry::start(move |request| {
        let own = format!("http://{}/token", request.header("host").unwrap());
        if request.path() == "/token" {
            let granted = request.header("authorization") == Some(&format!("Basic {LOGIN}"))
                || request.body.windows(21).any(|body| body == b"refresh_token=refresh");
            return if granted { Answer::ok(r#"{"token":"T","expires_in":300}"#) } else { Answer::new(401) };
        }
        if request.header("authorization") == Some("Bearer T") {
            return if request.path() == "/v2/" { Answer::ok("{}") } else { honest(&image(), request) };
        }
        let scope = request.path().strip_prefix("/v2/a").map_or("", |_| r#",scope="repository:a:pull""#);
        Answer::new(401).with("www-authenticate", format!(r#"Bearer realm="{own}",service="reg"{scope}"#))
    })
}

pub fn layout_of(image: &Image, folder: &Path) -> Layout {
    let path = folder.join("image.tar");
    let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
    let saved = image.write_to(&mut writer, Some("localhost:1/x:latest"));
    writer.finish(&[saved]).unwrap();
    Layout::open(&path).unwrap()
}

pub async fn push(
    client: &Client,
    layout: &Layout,
    target: &ImageReference,
) -> Result<PushReport, ClientError> {
    let source = LayoutSource::new(layout, &layout.roots()[0].descriptor);
    let progress: Arc<dyn Progress> = Arc::new(());
    client.push(&source, target, None, progress).await
}

pub fn login_for(host: &str) -> String {
    format!(r#"{{"auths":{{"{host}":{{"auth":"{LOGIN}"}}}}}}"#)
}

pub fn client_with(config: &str, folder: &Path) -> Client {
    let path = folder.join("config.json");
    fs::write(&path, config).unwrap();
    Client::new(ClientOptions { config: Some(DockerConfig::at(path)), ..ClientOptions::default() }).unwrap()
}

/// A whole blob, as the client gives it.
pub async fn fetch(
    client: &Client,
    image: &ImageReference,
    blob: &Descriptor,
) -> Result<Vec<u8>, ClientError> {
    let mut stream = client.blob(image, blob).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Some hundred kilobytes.
pub fn blob() -> (Descriptor, Vec<u8>) {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    (Descriptor::of("application/octet-stream", &bytes), bytes)
}
