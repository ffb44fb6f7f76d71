//! `quinistry bundle`: copies several images, with everything below them, into one archive.

mod chart;
pub(super) mod manifests;
mod names;
mod report;
pub(super) mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::ValueHint;

use self::chart::ChartArgs;
use self::manifests::ImageField;
use self::names::{bundled_names, full_name};
use self::report::{Bundled, BundledImage};
use self::sources::Sources;
use super::exit::UsageError;
use super::output::{OutputArgs, complain};
use super::remote::{self, ConnectionArgs};
use super::target::{allow_closed_pipe, ensure_one_output, target};
use crate::client::{Client, Missing, NotServed, Progress, Survey, TagConflict};
use crate::layout::{Format, RefNames, Target, Writer};
use crate::oci::{ImageReference, PlatformPattern, WithCauses};

/// Greatest number of images of one bundle. Their manifests are in memory until the archive is complete.
const MAX_IMAGES: usize = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Archive to write, an OCI image layout in a tar file; '-' is standard output
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    path: String,
    #[arg(
        value_name = "IMAGE",
        value_parser = remote::reference,
        help = "Images to take: HOST[:PORT]/NAME[:TAG][@DIGEST]"
    )]
    images: Vec<ImageReference>,
    /// Take the images of these Kubernetes manifests, too; '-' is standard input
    #[arg(long = "from", value_name = "YAML", value_hint = ValueHint::FilePath)]
    manifests: Vec<String>,
    #[command(flatten)]
    chart: ChartArgs,
    /// Take only the image for this platform of each index, such as linux/arm64; may be repeated [default: all]
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<PlatformPattern>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.images.is_empty() && self.manifests.is_empty() && self.chart.chart.is_none() {
            let problem =
                "no image is named: name images, manifests with --from FILE, or a chart with --chart REF";
            return Err(UsageError(problem.into()).into());
        }
        ensure_file(&self.path)?;
        let target = target(&self.path)?;
        target.check_archive()?;
        ensure_one_output(&target, self.output)?;
        allow_closed_pipe(&target.clone(), self.bundle(target))
    }

    fn bundle(self, target: Target) -> anyhow::Result<()> {
        let rendered = self.chart.render()?;
        let sources = Sources::read(&self.manifests, rendered.as_ref())?;
        let images = unique(self.images.iter().map(full_name).chain(sources.images));
        if images.len() > MAX_IMAGES {
            let found = images.len();
            return Err(UsageError(format!(
                "{found} images are too many for one bundle: the limit is {MAX_IMAGES}"
            ))
            .into());
        }
        let not_taken = not_taken(sources.others, &images);
        for field in first_of_each_image(&not_taken) {
            complain(&super::sanitize(&format!(
                "warning: not taken: {field}; name the image if it is needed"
            )));
        }
        let searched = self.manifests.iter().chain(rendered.as_ref().map(|(name, _)| name));
        let searched: Vec<&str> = searched.map(String::as_str).collect();
        anyhow::ensure!(!images.is_empty(), "no image of a pod was found in {}", searched.join(", "));
        let client = self.connection.client()?;
        let progress = super::progress::bars(self.output.is_quiet());
        let to_stdout = target == Target::Stdout;
        let survey = super::block_on(async {
            let survey = complete(client.survey(images, &self.platform).await)?;
            for TagConflict { name, named, unnamed } in survey.tag_conflicts() {
                complain(&format!(
                    "warning: {name} names {named}; {unnamed} is in the bundle by its digest alone"
                ));
            }
            for NotServed { image, reason } in &survey.not_served {
                complain(&super::sanitize(&format!("warning: {image}: {reason}")));
            }
            write(&client, &survey, target, &*progress).await?;
            Ok(survey)
        })?;
        if to_stdout {
            return Ok(());
        }
        self.output.print(&Bundled {
            path: self.path,
            contents: survey.contents(),
            bytes: survey.bytes(),
            images: survey.images.iter().map(BundledImage::of).collect(),
            not_taken,
        })
    }
}

/// Returns the images, each once.
fn unique(images: impl Iterator<Item = ImageReference>) -> Vec<ImageReference> {
    let by_name: BTreeMap<_, _> = images.map(|image| (image.to_string(), image)).collect();
    by_name.into_values().collect()
}

/// Refuses the name of an image where the name of the archive is left out. A file of such a name can be written if its
/// folder exists.
fn ensure_file(typed: &str) -> Result<(), UsageError> {
    let has_folder = Path::new(typed).parent().is_some_and(Path::is_dir);
    if has_folder || typed.parse::<ImageReference>().is_err() {
        return Ok(());
    }
    let typed = super::sanitize(typed);
    Err(UsageError(format!("FILE is missing: '{typed}' is the name of an image; name the archive first")))
}

/// Returns the fields whose images are not taken.
fn not_taken(fields: Vec<ImageField>, images: &[ImageReference]) -> Vec<ImageField> {
    let taken: BTreeSet<_> = images.iter().flat_map(bundled_names).collect();
    let is_taken = |field: &ImageField| wanted_name(field).is_some_and(|name| taken.contains(&name));
    fields.into_iter().filter(|field| !is_taken(field)).collect()
}

/// Returns the first field of each image.
fn first_of_each_image(fields: &[ImageField]) -> impl Iterator<Item = &ImageField> {
    let mut seen = BTreeSet::new();
    fields.iter().filter(move |field| wanted_name(field).is_none_or(|name| seen.insert(name)))
}

/// Returns the name by which a kubelet looks for the image of a field.
fn wanted_name(field: &ImageField) -> Option<String> {
    bundled_names(&field.full_name()?).pop()
}

/// Prints everything that is missing, and fails if anything is.
fn complete(survey: Survey) -> anyhow::Result<Survey> {
    if survey.missing.is_empty() {
        return Ok(survey);
    }
    for Missing { image, reason } in &survey.missing {
        complain(&super::sanitize(&format!("missing: {image}: {}", WithCauses(reason))));
    }
    let number = super::count(survey.missing.len(), "part");
    anyhow::bail!("{number} not found or not readable (listed above); no file was written")
}

async fn write(
    client: &Client,
    survey: &Survey,
    target: Target,
    progress: &dyn Progress,
) -> anyhow::Result<()> {
    let mut writer = Writer::create(target, Format::Archive)?.with_ref_names(RefNames::Full);
    let images = client.fetch_survey(survey, &mut writer, progress).await?;
    Ok(writer.finish(&images)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_whose_images_are_taken_are_not_reported() {
        let digest = crate::oci::Digest::sha256(b"");
        let text = format!(
            "{{kind: X, a: {{image: 'ghcr.io/acme/pg:17'}}, b: {{image: 'pg:17'}}, c: {{image: pg}}, d: {{image: \
             'docker.io/library/pg:latest'}}, e: {{image: 'ghcr.io/a@{digest}'}}, f: {{image: 'ghcr.io/a:1'}}, g: {{image: \
             'ghcr.io/a:2@{digest}'}}}}"
        );
        let fields = manifests::find("x", &text).unwrap().others;
        let images = ["ghcr.io/acme/pg:17".to_owned(), format!("ghcr.io/a:1@{digest}")];
        let images: [ImageReference; 2] = images.map(|image| image.parse().unwrap());
        let fields = not_taken(fields, &images);
        let shown = |field: &ImageField| field.full_name().unwrap().to_string();
        assert_eq!(
            fields.iter().map(shown).collect::<Vec<_>>(),
            ["docker.io/library/pg:17", "docker.io/library/pg:latest", "docker.io/library/pg:latest"]
        );
        assert_eq!(first_of_each_image(&fields).count(), 2);
    }

    #[test]
    fn a_forgotten_file_is_noticed() {
        for typed in ["ghcr.io/acme/shop:1", "localhost:5000/x"] {
            let error = ensure_file(typed).unwrap_err().to_string();
            assert!(error.starts_with(&format!("FILE is missing: '{typed}'")), "{error}");
        }
        let folder = tempfile::Builder::new().prefix("a.b").tempdir_in(".").unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        for typed in ["shop.tar", "-", "./ghcr.io/acme/shop", "/tmp/a.tar", &format!("{name}/shop")] {
            ensure_file(typed).unwrap();
        }
    }
}
