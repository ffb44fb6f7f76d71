//! Wrong children on one node each: one that serves another image than its name says, and one that crashes.
//! Content addressing protects a pull, but not a node whose containerd already stores another image under
//! that name. The chain stops there, the generations below continue, and the chain heals when the wrong image
//! is removed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join;
use kube::ResourceExt;
use kube::api::ListParams;
use quinistry::layout::{Format, SavedImage, Target, Writer};
use quinistry::oci::{Descriptor, Digest, ImageManifest, media_type, to_json};
use serde_json::json;

use super::support::{Node, Stage, Story, When, serving, shell, wait};

const DEADLINE: Duration = Duration::from_mins(4);
/// Termination message of the crashing image.
const CRASH_MESSAGE: &str = "the shelf gave way";
const CRASH_EXIT_CODE: u8 = 7;

pub fn story() -> Story {
    Story { name: "bad_children", when: When::Together, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    try_join(forged(&stage), crashing(&stage)).await.map(drop)
}

/// Generation 2 of three runs another executable on one node.
async fn forged(stage: &Stage) -> Result<()> {
    let (first, second) = (&stage.world.first, &stage.world.second);
    let node = &*stage.world.nodes[1];
    let port = stage.base_port;
    let name = first.at(port);
    ctr_images(node, &["tag", "--force", &second.image, &name]).await?;
    stage.apply(&stage.resource("forged", 3)).await?;
    let message = stage.until("forged", "FixedPoint", "False", "DigestMismatch", DEADLINE).await?;
    stage.log(&message);
    for word in [node.name(), "generation 2", &first.digest, &second.digest] {
        ensure!(message.contains(word), "the message does not name {word}: {message}");
    }
    stage.until("forged", "Degraded", "True", "DigestMismatch", DEADLINE).await?;
    stage.until("forged", "Progressing", "False", "DigestMismatch", DEADLINE).await?;
    check_chain_stopped(stage, "forged", node, port, "DigestMismatch").await?;

    ctr_images(node, &["rm", &name]).await?;
    stage.until_ready("forged", DEADLINE).await?;
    stage.until("forged", "FixedPoint", "True", "DigestsEqual", DEADLINE).await?;
    stage.log("the forged image is gone, and all generations are Ready");
    serving::check_all_nodes(stage, port..port + 3, &first.digest).await
}

/// Generation 2 of three ends as soon as it starts, on one node.
async fn crashing(stage: &Stage) -> Result<()> {
    let node = &*stage.world.nodes[2];
    let port = stage.base_port + 8;
    let digest = &stage.world.first.digest;
    let folder = tempfile::tempdir()?;
    let crash = "registry.example.com/crash:1";
    node.load(&crashing_image(folder.path(), crash).await?).await?;
    let name = format!("localhost:{port}/quinistry@{digest}");
    ctr_images(node, &["tag", "--force", crash, &name]).await?;
    let mut resource = stage.resource("crashing", 3);
    resource["spec"]["basePort"] = json!(port);
    stage.apply(&resource).await?;
    let message = stage.until("crashing", "Degraded", "True", "CrashLoop", DEADLINE).await?;
    stage.log(&message);
    let code = format!("exit code {CRASH_EXIT_CODE}");
    for word in [node.name(), "generation 2", "restart", &code, CRASH_MESSAGE] {
        ensure!(message.contains(word), "the message does not say {word}: {message}");
    }
    check_chain_stopped(stage, "crashing", node, port, "CrashLoop").await?;

    ctr_images(node, &["rm", &name]).await?;
    stage.until_ready("crashing", DEADLINE).await?;
    stage.until("crashing", "Degraded", "False", "AsExpected", DEADLINE).await?;
    stage.log("the crashing image is gone, and all generations are Ready");
    serving::check_all_nodes(stage, port..port + 3, digest).await
}

/// Checks that generation 1 serves on every node, that generation 2 has its pods, that there is no generation
/// 3, and that the status names one node.
async fn check_chain_stopped(
    stage: &Stage,
    name: &str,
    node: &dyn Node,
    port: i32,
    reason: &str,
) -> Result<()> {
    serving::check_all_nodes(stage, port..port + 1, &stage.world.first.digest).await?;
    // A container that has crashed less than three times, and is running for a moment, counts as starting.
    let resource = wait::eventually(DEADLINE, "the status names one node", || async {
        let resource = stage.resources().get(name).await?;
        let deviations = resource.status.as_ref().map_or(&[][..], |status| &status.deviations);
        let reported: Vec<_> = deviations
            .iter()
            .map(|one| (one.node.as_str(), one.generation, one.reason.to_string()))
            .collect();
        ensure!(reported == [(node.name(), 2, reason.to_owned())], "deviations: {deviations:?}");
        Ok(resource)
    })
    .await?;
    let sets = stage.daemon_sets().list(&ListParams::default()).await?;
    let names: Vec<_> = sets.iter().map(ResourceExt::name_any).filter(|set| set.starts_with(name)).collect();
    ensure!(names == [name.to_owned(), format!("{name}-gen2")], "there are {names:?}");
    let selection = ListParams::default()
        .labels(&format!("quinistry.dev/resource={}", resource.uid().unwrap_or_default()));
    let pods = stage.pods().list(&selection).await?.items.len();
    ensure!(pods == stage.world.nodes.len() * 2, "{pods} pods");
    Ok(())
}

/// Runs `ctr images` on a node.
async fn ctr_images(node: &dyn Node, words: &[&str]) -> Result<()> {
    let ctr = node.ctr();
    let words: Vec<&str> =
        ctr.iter().map(String::as_str).chain(["images"]).chain(words.iter().copied()).collect();
    node.run(&words).await.map(drop)
}

/// Builds an archive of an image whose executable prints a line and fails.
async fn crashing_image(folder: &Path, name: &str) -> Result<PathBuf> {
    let (source, program, archive) = (folder.join("crash.c"), folder.join("crash"), folder.join("crash.tar"));
    let mut file = std::fs::File::create(&source)?;
    writeln!(
        file,
        "#include <stdio.h>\nint main(void) {{ fputs(\"{CRASH_MESSAGE}\\n\", stderr); return {CRASH_EXIT_CODE}; }}"
    )?;
    let [from, to] = [&source, &program].map(|path| path.to_string_lossy());
    shell::output(shell::command(["gcc", "-static", "-s", "-o", &to, &from])).await?;

    let content = std::fs::read(&program)?;
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len().try_into()?);
    header.set_mode(0o755);
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_data(&mut header, "crash", content.as_slice())?;
    let layer = layer.into_inner()?;
    let config = to_json(&json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": ["/crash"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&layer)]},
    }));
    let descriptors =
        [Descriptor::of(media_type::OCI_CONFIG, &config), Descriptor::of(media_type::OCI_LAYER_TAR, &layer)];
    let manifest = to_json(&ImageManifest {
        annotations: std::collections::BTreeMap::new(),
        config: descriptors[0].clone(),
        layers: vec![descriptors[1].clone()],
        media_type: Some(media_type::OCI_MANIFEST.into()),
        schema_version: 2,
    });
    let descriptor = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    let mut writer = Writer::create(Target::parse(&archive.to_string_lossy()), Format::Archive)?;
    for (descriptor, bytes) in
        [(&descriptors[0], &config), (&descriptors[1], &layer), (&descriptor, &manifest)]
    {
        writer.add_blob(descriptor, bytes)?;
    }
    writer.finish(&[SavedImage { descriptor, name: Some(name.into()), docker: None }])?;
    Ok(archive)
}
