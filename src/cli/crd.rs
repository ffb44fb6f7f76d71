//! `quinistry crd`: the definitions of the resources, for `kubectl apply --server-side -f -`.

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "subcommands look alike")]
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::print(crate::crd::DEFINITIONS.map(|(_, yaml)| yaml).join("---\n"))
    }
}
