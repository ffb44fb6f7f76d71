//! `quinistry delete`

use serde::Serialize;

use super::exit::UsageError;
use super::output::{Output, Report};
use super::remote::{Name, Remote};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    reference: String,
    deleted: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Tag,
    Manifest,
}

// === impl Args ===

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let image = self.name.image;
        // The digest decides where both are named, as everywhere.
        let (reference, deleted) = match (image.digest(), image.tag()) {
            (Some(digest), _) => (image.with_digest(digest.clone()).to_string(), Kind::Manifest),
            (None, Some(_)) => (image.to_string(), Kind::Tag),
            (None, None) => {
                let reason =
                    "names no tag and no digest; a tag is deleted alone, a digest with all of its tags";
                return Err(UsageError(format!("{image} {reason}")).into());
            }
        };
        let client = self.remote.client()?;
        super::block_on(async { Ok(client.delete(&image).await?) })?;
        self.output.print(&Deleted { reference, deleted })
    }
}

impl Report for Deleted {
    fn text(&self) -> String {
        match self.deleted {
            Kind::Tag => format!("deleted tag {}\n", self.reference),
            Kind::Manifest => format!("deleted manifest {} and its tags\n", self.reference),
        }
    }

    fn essence(&self) -> String {
        format!("{}\n", self.reference)
    }
}
