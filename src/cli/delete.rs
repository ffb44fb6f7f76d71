//! `quinistry delete`: deletes a tag or a manifest.

use serde::Serialize;

use super::exit::UsageError;
use super::output::{OutputArgs, Report};
use super::remote::{ConnectionArgs, ImageArg};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: ImageArg,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    reference: String,
    deleted: DeletedKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum DeletedKind {
    Tag,
    Manifest,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        // The digest takes precedence over the tag, as in every command.
        let (reference, deleted) = match (image.digest(), image.tag()) {
            (Some(digest), _) => (image.with_digest(digest.clone()).to_string(), DeletedKind::Manifest),
            (None, Some(_)) => (image.to_string(), DeletedKind::Tag),
            (None, None) => {
                let reason =
                    "names no tag and no digest; a tag is deleted alone, a digest with all of its tags";
                return Err(UsageError(format!("{image} {reason}")).into());
            }
        };
        let client = self.connection.client()?;
        super::block_on(async { Ok(client.delete(&image).await?) })?;
        self.output.print(&Deleted { reference, deleted })
    }
}

impl Report for Deleted {
    fn text(&self) -> String {
        match self.deleted {
            DeletedKind::Tag => format!("deleted tag {}\n", self.reference),
            DeletedKind::Manifest => format!("deleted manifest {} and its tags\n", self.reference),
        }
    }

    fn essence(&self) -> String {
        format!("{}\n", self.reference)
    }
}
