//! Small images, made on the spot.

use std::io::Write as _;

use quinistry::layout::{DockerImage, SavedImage, Writer};
use quinistry::oci::{Descriptor, Digest, ImageIndex, ImageManifest, Platform, media_type, to_json};

/// An image with all its bytes.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Vec<u8>,
    pub descriptor: Descriptor,
    pub config: (Descriptor, Vec<u8>),
    pub layers: Vec<(Descriptor, Vec<u8>)>,
}

/// Compression of a layer.
#[derive(Clone, Copy, Debug)]
pub enum Packing {
    Plain,
    Gzip,
}

impl Image {
    /// An image for `architecture` with one layer per text; the layer holds a file with that text.
    pub fn new(architecture: &str, layers: &[&str], packing: Packing) -> Self {
        let tars: Vec<Vec<u8>> = layers.iter().map(|text| tar_of("hello.txt", text.as_bytes())).collect();
        Self::of_tars(architecture, &tars, packing)
    }

    pub fn of_tars(architecture: &str, tars: &[Vec<u8>], packing: Packing) -> Self {
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::sha256(tar)).collect();
        let layers: Vec<_> = tars
            .iter()
            .map(|tar| match packing {
                Packing::Plain => (Descriptor::of(media_type::OCI_LAYER_TAR, tar), tar.clone()),
                Packing::Gzip => {
                    let bytes = gzip(tar);
                    (Descriptor::of(media_type::OCI_LAYER_GZIP, &bytes), bytes)
                }
            })
            .collect();
        let config = to_json(&serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }));
        let config = (Descriptor::of(media_type::OCI_CONFIG, &config), config);
        let manifest = to_json(&ImageManifest {
            annotations: [(String::from("org.opencontainers.image.title"), String::from("test"))].into(),
            config: config.0.clone(),
            layers: layers.iter().map(|(descriptor, _)| descriptor.clone()).collect(),
            media_type: Some(media_type::OCI_MANIFEST.into()),
            schema_version: 2,
        });
        let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
        descriptor.platform =
            Some(Platform { architecture: architecture.into(), os: "linux".into(), ..Platform::default() });
        Self { manifest, descriptor, config, layers }
    }

    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Configuration and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &(Descriptor, Vec<u8>)> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    pub fn write_to(&self, writer: &mut Writer, name: Option<&str>) -> SavedImage {
        for (descriptor, bytes) in self.blobs() {
            writer.add_blob(descriptor, bytes).unwrap();
        }
        writer.add_blob(&self.descriptor, &self.manifest).unwrap();
        SavedImage {
            descriptor: Descriptor { platform: None, ..self.descriptor.clone() },
            name: name.map(str::to_owned),
            docker: Some(DockerImage {
                config: self.config.0.digest.clone(),
                layers: self.layers.iter().map(|(layer, _)| layer.digest.clone()).collect(),
            }),
        }
    }
}

/// An index of images, and its descriptor.
pub fn index_of(images: &[&Image]) -> (Descriptor, Vec<u8>) {
    let bytes = to_json(&ImageIndex {
        manifests: images.iter().map(|image| image.descriptor.clone()).collect(),
        media_type: Some(media_type::OCI_INDEX.into()),
        schema_version: 2,
    });
    (Descriptor::of(media_type::OCI_INDEX, &bytes), bytes)
}

pub fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, name, content);
    tar.into_inner().unwrap()
}

/// Returns an archive as `docker save` of Docker 20.10 writes it: no `index.json`, shared layers by symbolic
/// link.
pub fn docker_archive(image: &Image, name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let config = format!("{}.json", image.config.0.digest.hex());
    append(&mut tar, &config, &image.config.1);
    let mut names = Vec::new();
    for (number, (_, layer)) in image.layers.iter().enumerate() {
        let name = format!("layer{number}/layer.tar");
        append(&mut tar, &name, layer);
        names.push(name);
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "again/layer.tar", "../layer0/layer.tar").unwrap();
    names[0] = "again/layer.tar".into();
    let list = serde_json::json!([{"Config": config, "RepoTags": [name], "Layers": names}]);
    append(&mut tar, "manifest.json", list.to_string().as_bytes());
    tar.into_inner().unwrap()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).unwrap();
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
