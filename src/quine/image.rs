//! Layer, configuration and manifest of the quine.

use std::collections::BTreeMap;

use quinistry_oci::{
    Content, Descriptor, Digest, History, ImageConfig, ImageConfiguration, ImageManifest, RootFs, media_type,
    to_json,
};

use super::layer::{self, LayerForm, UID};
use super::{Executable, ExecutableError, VERSION};

/// Content with its descriptor.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Media type, digest and size of the content.
    pub descriptor: Descriptor,
    /// Bytes of the blob; clones share them.
    pub content: Content,
}

impl Blob {
    fn of(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), content: [bytes.into()].into() }
    }

    /// Returns the digest of the content.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }
}

/// Purpose of an image of this executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// The fixed point, the one that is served.
    #[default]
    Served,
    /// The bootstrap image, meant to be loaded onto nodes by hand. It has one label more and so another
    /// configuration digest: a kubelet (≥ 1.35) that has pulled the served image refuses to restart a
    /// preloaded one of the same configuration. The executable is the same, so it serves the same fixed
    /// point.
    Bootstrap,
}

/// The image computed from an executable.
#[derive(Clone, Debug)]
pub struct Quine {
    form: LayerForm,
    manifest: Blob,
    config: Blob,
    layer: Blob,
}

/// Creation time in the image: the epoch, because a computed image has no other date.
const CREATED: &str = "1970-01-01T00:00:00Z";

impl Quine {
    /// Computes the image that serves itself.
    pub fn new(executable: &Executable, form: LayerForm) -> Result<Self, ExecutableError> {
        Self::with_flavour(executable, form, Flavour::Served)
    }

    /// Computes the served image or the bootstrap image.
    pub fn with_flavour(
        executable: &Executable,
        form: LayerForm,
        flavour: Flavour,
    ) -> Result<Self, ExecutableError> {
        let layer = layer::build(executable, form).map_err(ExecutableError::Read)?;
        let labels = labels();
        let config = Blob::of(
            media_type::OCI_CONFIG,
            to_json(&ImageConfiguration {
                architecture: Executable::architecture().into(),
                config: ImageConfig {
                    cmd: command(form),
                    entrypoint: vec!["/quinistry".into()],
                    env: vec!["PATH=/".into()],
                    exposed_ports: BTreeMap::from([("8080/tcp".into(), BTreeMap::new())]),
                    labels: match flavour {
                        Flavour::Served => labels.clone(),
                        Flavour::Bootstrap => {
                            let extra = ("dev.quinistry.bootstrap".into(), "true".into());
                            labels.clone().into_iter().chain([extra]).collect()
                        }
                    },
                    stop_signal: "SIGTERM".into(),
                    user: format!("{UID}:{UID}"),
                    working_dir: "/".into(),
                },
                created: CREATED.into(),
                history: vec![History { created: CREATED.into(), created_by: "quinistry".into() }],
                os: "linux".into(),
                rootfs: RootFs { diff_ids: vec![layer.diff_id], kind: "layers".into() },
            }),
        );
        let layer = Blob {
            descriptor: Descriptor {
                annotations: BTreeMap::new(),
                artifact_type: None,
                digest: layer.digest,
                media_type: form.media_type().into(),
                platform: None,
                size: layer.content.len(),
                urls: Vec::new(),
            },
            content: layer.content,
        };
        let manifest = Blob::of(
            media_type::OCI_MANIFEST,
            to_json(&ImageManifest {
                annotations: labels,
                config: config.descriptor.clone(),
                layers: vec![layer.descriptor.clone()],
                media_type: Some(media_type::OCI_MANIFEST.into()),
                schema_version: 2,
            }),
        );
        Ok(Self { form, manifest, config, layer })
    }

    /// Returns the form in which the layer is stored.
    #[must_use]
    pub const fn form(&self) -> LayerForm {
        self.form
    }

    /// Returns the fixed point: the digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.manifest.digest()
    }

    /// Returns the image's manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// Returns the image's configuration.
    #[must_use]
    pub const fn config(&self) -> &Blob {
        &self.config
    }

    /// Returns the image's only layer.
    #[must_use]
    pub const fn layer(&self) -> &Blob {
        &self.layer
    }
}

/// Returns the image's command. It names a form that is not the default, so that a child serves what its
/// parent served.
fn command(form: LayerForm) -> Vec<String> {
    match form {
        LayerForm::Tar => vec!["serve".into()],
        LayerForm::Gzip => vec!["serve".into(), "--layer".into(), form.as_str().into()],
    }
}

/// Returns the manifest's annotations, which are also the configuration's labels, because Docker shows no
/// annotations.
fn labels() -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from(
        [
            ("created", CREATED),
            ("description", env!("CARGO_PKG_DESCRIPTION")),
            ("licenses", env!("CARGO_PKG_LICENSE")),
            ("source", env!("CARGO_PKG_REPOSITORY")),
            ("title", "quinistry"),
            ("version", VERSION),
        ]
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned())),
    );
    // Not read from git: two builders of the same source must get the same bytes.
    if let Some(revision) = option_env!("QUINISTRY_REVISION") {
        labels.insert("org.opencontainers.image.revision".into(), revision.into());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinistry_oci::ConfigSummary;

    fn quine(form: LayerForm) -> Quine {
        Quine::new(&Executable::current().unwrap(), form).unwrap()
    }

    #[test]
    fn is_a_function_of_the_executable_and_the_form() {
        for form in LayerForm::ALL {
            assert_eq!(quine(form).manifest.descriptor, quine(form).manifest.descriptor);
        }
        assert_ne!(quine(LayerForm::Tar).digest(), quine(LayerForm::Gzip).digest());
    }

    #[test]
    fn every_digest_and_size_is_that_of_the_bytes() {
        for form in LayerForm::ALL {
            let quine = quine(form);
            for blob in [&quine.manifest, &quine.config, &quine.layer] {
                assert!(blob.digest().matches(&blob.content.to_bytes().unwrap()));
                assert_eq!(blob.descriptor.size, blob.content.len());
            }
            let manifest: ImageManifest =
                serde_json::from_slice(&quine.manifest.content.to_bytes().unwrap()).unwrap();
            assert_eq!(manifest.config, quine.config.descriptor);
            assert_eq!(manifest.layers, std::slice::from_ref(&quine.layer.descriptor));
            let config: ConfigSummary =
                serde_json::from_slice(&quine.config.content.to_bytes().unwrap()).unwrap();
            assert_eq!(
                (config.os.as_str(), config.architecture.as_str()),
                ("linux", Executable::architecture())
            );
            assert_eq!(config.rootfs.unwrap().diff_ids.len(), 1);
        }
    }

    #[test]
    fn config_says_what_an_engine_needs() {
        let config: serde_json::Value =
            serde_json::from_slice(&quine(LayerForm::Gzip).config.content.to_bytes().unwrap()).unwrap();
        let run = &config["config"];
        assert_eq!(run["Entrypoint"], serde_json::json!(["/quinistry"]));
        assert_eq!(run["Cmd"], serde_json::json!(["serve", "--layer", "gzip"]));
        assert_eq!(run["User"], "65532:65532");
        assert_eq!(run["ExposedPorts"], serde_json::json!({"8080/tcp": {}}));
        assert_eq!(run["Labels"]["org.opencontainers.image.version"], VERSION);
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn bootstrap_differs_in_the_config_alone() {
        let executable = Executable::current().unwrap();
        let served = Quine::new(&executable, LayerForm::Tar).unwrap();
        let bootstrap = Quine::with_flavour(&executable, LayerForm::Tar, Flavour::Bootstrap).unwrap();
        assert_eq!(served.layer.digest(), bootstrap.layer.digest());
        assert_ne!(served.config.digest(), bootstrap.config.digest());
    }
}
