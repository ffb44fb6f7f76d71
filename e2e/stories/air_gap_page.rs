//! The page docs/air-gap.md, whose commands are run word by word, in order, on a cluster in which nothing is prepared. The
//! chart and the images of the page are those of the story.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::process::Command;

use super::support::application::Elsewhere;
use super::support::kubeconfig::Kubeconfig;
use super::support::page_commands::commands;
use super::support::{Stage, Story, When, outage, seed, shell, up};

const PAGE: &str = "docs/air-gap.md";
/// Namespace of the page, for which that of the stage stands.
const NAMESPACE: &str = "quinistry-system";
/// Folder of stores that name none.
const STORE_FOLDER: &str = "/var/lib/quinistry";
/// Versions of the page's application.
const VERSIONS: [&str; 2] = ["1.4.0", "1.5.0"];
/// Chart of the page.
const CHART: &str = "template shop oci://ghcr.io/acme/charts/shop --version";
const DEADLINE: Duration = Duration::from_mins(5);

pub fn story() -> Story {
    Story { name: "air_gap_page", when: When::Last, operator: true, play: |stage| Box::pin(play(stage)) }
}

async fn play(stage: Arc<Stage>) -> Result<()> {
    let result = up::without_shared_operator(&stage, Box::pin(follow_page(&stage))).await;
    seed::load_bootstrap_images(&stage).await?;
    result
}

async fn follow_page(stage: &Stage) -> Result<()> {
    // The page names no folder, so that the stores of all other stories are in theirs.
    for node in &stage.world.nodes {
        let remove = format!("rm -rf {STORE_FOLDER}/*");
        shell::output(node.disk_command(&["sh", "-c", &remove])).await?;
    }
    let elsewhere = Elsewhere::start(stage).await?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    for version in VERSIONS {
        let carried = elsewhere.carry(stage, version).await?;
        let images = carried.images.iter().map(|image| carried.origin(&image.path)).collect::<Vec<_>>();
        std::fs::write(folder.join(format!("chart-{version}")), deployment(&images, version).to_string())?;
    }
    Kubeconfig::read()?.in_namespace(&stage.namespace).write(&folder.join("kubeconfig"))?;
    install_programs(stage, folder)?;

    let page = std::fs::read_to_string(stage.world.root.join(PAGE))?.replace(NAMESPACE, &stage.namespace);
    let commands = commands(&page);
    ensure!(!commands.is_empty(), "{PAGE} has no commands");
    for one in &commands {
        let began = Instant::now();
        let command = in_folder(folder, &one.command)?;
        let output = tokio::time::timeout(DEADLINE, shell::outputs(command)).await;
        let (out, errors) = output.with_context(|| format!("`{}` takes too long", one.command))??;
        stage.log(format_args!("{:.1} s: $ {}", began.elapsed().as_secs_f32(), one.command));
        let missing = one.missing_words(&(out.clone() + &errors));
        ensure!(missing.is_empty(), "{PAGE} shows {missing:?} for `{}`: {out}{errors}", one.command);
    }

    // The page ends with the former version.
    let set = ["rollout", "status", "deployment/shop", "--timeout=120s", "--namespace", &stage.namespace];
    outage::kubectl(&set).await?;
    let label = ["get", "deployment/shop", "--output=jsonpath={.metadata.labels.version}"];
    let version = outage::kubectl(&[label.as_slice(), &["--namespace", &stage.namespace]].concat()).await?;
    ensure!(version == VERSIONS[0], "version {version} runs");
    outage::kubectl(&["delete", "deployment/shop", "--namespace", &stage.namespace]).await?;
    up::down(stage).await.map(drop)
}

/// Returns the manifest of the page's chart.
fn deployment(images: &[String], version: &str) -> serde_json::Value {
    let labels = json!({"app": "shop"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "shop", "labels": {"version": version}},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "initContainers": [{"name": "first", "image": images[1], "args": ["version"]}],
                    "containers": [{
                        "name": "shop", "image": images[0],
                        "readinessProbe": {"httpGet": {"path": "/v2/", "port": 8080}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

/// Writes the programs that the page calls. They change nothing but the place: namespace and ports are those of the stage,
/// and the chart is a file.
fn install_programs(stage: &Stage, folder: &Path) -> Result<()> {
    let (program, namespace) = (stage.world.first.path.to_string_lossy(), &stage.namespace);
    let port = stage.base_port;
    let quinistry = format!(
        "case $1 in\n\
         up) exec '{program}' \"$@\" --namespace {namespace} --base-port {port} ;;\n\
         load | status) exec '{program}' \"$@\" --namespace {namespace} ;;\n\
         *) exec '{program}' \"$@\" ;;\n\
         esac"
    );
    let helm = format!(
        "for version in {}; do\n\
         [ \"$*\" != \"{CHART} $version\" ] || exec cat \"chart-$version\"\n\
         done\n\
         echo \"no such chart: $*\" >&2; exit 1",
        VERSIONS.join(" ")
    );
    let programs = folder.join("bin");
    std::fs::create_dir(&programs)?;
    for (name, script) in [("quinistry", quinistry), ("helm", helm)] {
        let path = programs.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Builds a command of the page, which fails if any part of a pipe does.
fn in_folder(folder: &Path, command: &str) -> Result<Command> {
    let path = std::env::var("PATH").context("PATH is not set")?;
    let mut shell = shell::command(["bash", "-o", "pipefail", "-c", command]);
    shell.current_dir(folder);
    shell.env("PATH", format!("{}:{path}", folder.join("bin").display()));
    shell.env("KUBECONFIG", folder.join("kubeconfig"));
    Ok(shell)
}
