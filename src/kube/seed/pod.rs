//! What a pod of generation 0 has beside that of every generation: the stub, the pieces, and a place to put them
//! together where memory files must not be executed (`vm.memfd_noexec`). Pure.

use quinistry_oci::Digest;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{SeedNames, SeedPart};

/// Where the stub lies in the pod.
const STUB: &str = "/quinistry-stub";

/// Where the pieces lie, under their numbers.
const PIECES: &str = "/quinistry-pieces";

/// Where the stub may write.
const SCRATCH: &str = "/quinistry-scratch";

/// The command in place of the carrier's own; what `serve` is told follows as arguments.
#[must_use]
pub fn command(executable: &Digest) -> Vec<String> {
    vec![format!("{STUB}/{}", SeedPart::Stub.key()), executable.to_string(), PIECES.into(), SCRATCH.into()]
}

/// The volumes of the pod.
#[must_use]
pub fn volumes(names: &SeedNames, pieces: usize) -> Vec<Volume> {
    let item = |part: SeedPart, path: String| KeyToPath { key: part.key().into(), path, mode: None };
    let stub = ConfigMapVolumeSource {
        name: names.of(SeedPart::Stub),
        items: Some(vec![item(SeedPart::Stub, SeedPart::Stub.key().into())]),
        default_mode: Some(0o555),
        optional: None,
    };
    let sources = (0..pieces).map(|index| VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: names.of(SeedPart::Share(index)),
            items: Some(vec![item(SeedPart::Share(index), format!("{index:03}"))]),
            optional: None,
        }),
        ..VolumeProjection::default()
    });
    let pieces_volume = ProjectedVolumeSource { default_mode: Some(0o444), sources: Some(sources.collect()) };
    // More than the pieces fill, so that the limit is never what fails; in the API server's own spelling, or what is there
    // would never be what is wanted.
    let limit = Quantity(format!("{}Mi", pieces + 1));
    let scratch = EmptyDirVolumeSource { medium: Some("Memory".into()), size_limit: Some(limit) };
    vec![
        Volume { name: "stub".into(), config_map: Some(stub), ..Volume::default() },
        Volume { name: "pieces".into(), projected: Some(pieces_volume), ..Volume::default() },
        Volume { name: "scratch".into(), empty_dir: Some(scratch), ..Volume::default() },
    ]
}

/// Where the container has them.
#[must_use]
pub fn mounts() -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only,
        ..VolumeMount::default()
    };
    vec![
        mount("stub", STUB, Some(true)),
        mount("pieces", PIECES, Some(true)),
        mount("scratch", SCRATCH, None),
    ]
}
