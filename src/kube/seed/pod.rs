//! Parts of generation 0's pods that other generations lack: volumes of the stub and the seed parts, and a
//! scratch volume for nodes on which files in memory must not be executed (`vm.memfd_noexec`). Pure.

use quinistry_oci::Digest;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{SeedNames, SeedPart};

/// Path of the stub's volume in the pod.
const STUB: &str = "/quinistry-stub";

/// Path of the seed parts' volume; the files are named by number.
const PIECES: &str = "/quinistry-pieces";

/// Path of the scratch volume, in which the stub may write.
const SCRATCH: &str = "/quinistry-scratch";

/// Returns the command, which replaces the carrier's own. The arguments of `quinistry` follow it.
#[must_use]
pub fn command(executable: &Digest) -> Vec<String> {
    vec![format!("{STUB}/{}", SeedPart::Stub.key()), executable.to_string(), PIECES.into(), SCRATCH.into()]
}

/// Returns the volumes of the pod.
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
    // More than the executable's length, so that the limit never fails. In the API server's canonical form,
    // or the DaemonSet would never equal the wanted one.
    let limit = Quantity(format!("{}Mi", pieces + 1));
    let scratch = EmptyDirVolumeSource { medium: Some("Memory".into()), size_limit: Some(limit) };
    vec![
        Volume { name: "stub".into(), config_map: Some(stub), ..Volume::default() },
        Volume { name: "pieces".into(), projected: Some(pieces_volume), ..Volume::default() },
        Volume { name: "scratch".into(), empty_dir: Some(scratch), ..Volume::default() },
    ]
}

/// Returns the volume mounts of the container.
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
