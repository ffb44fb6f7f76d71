//! `quinistry crd`: the resource's definition, for `kubectl apply --server-side -f -`.

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "subcommands look alike")]
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::print(crate::crd::DEFINITION_YAML)
    }
}
