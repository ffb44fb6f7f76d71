//! Charts, which the real helm renders.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::ValueHint;

use super::sources;
use crate::cli::sanitize;

/// Program that renders charts.
const HELM: &str = "helm";

/// Name of the release. It gives objects their names, and images none.
const RELEASE: &str = "release";

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct ChartArgs {
    /// Take the images of this chart, too, which `helm template` renders: `oci://HOST/NAME`, a folder or a .tgz
    /// file
    #[arg(long, value_name = "REF")]
    pub(super) chart: Option<String>,
    /// Version of the chart
    #[arg(long = "version", id = "chart_version", value_name = "VERSION", requires = "chart")]
    version: Option<String>,
    /// Values of the chart, as for helm; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "chart")]
    values: Vec<String>,
}

impl ChartArgs {
    /// Renders the chart, if there is one. Returns its name for messages, and its manifests.
    pub(super) fn render(&self) -> anyhow::Result<Option<(String, String)>> {
        let Some(chart) = &self.chart else { return Ok(None) };
        let name = format!("chart {}", sanitize(chart));
        let text = render(HELM.as_ref(), &self.arguments(chart), &name)?;
        Ok(Some((name, text)))
    }

    /// Returns the arguments of helm.
    fn arguments(&self, chart: &str) -> Vec<String> {
        let version = self.version.iter().map(|version| format!("--version={version}"));
        let values = self.values.iter().map(|file| format!("--values={file}"));
        let flags = version.chain(values);
        let fixed = ["--", RELEASE, chart].map(str::to_owned);
        ["template".to_owned()].into_iter().chain(flags).chain(fixed).collect()
    }
}

/// Runs a program that prints manifests. Its messages go to standard error.
fn render(program: &OsStr, arguments: &[String], name: &str) -> anyhow::Result<String> {
    let started = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "failed to render {name}: {} is not in PATH; install helm 3.8 or newer, or render the chart elsewhere \
             and use --from",
            program.display()
        ),
        _ => anyhow::Error::new(error)
            .context(format!("failed to render {name}: cannot start {}", program.display())),
    })?;
    let output = child.stdout.take().expect("the output is piped");
    // The end of a text that is too long is not read: the program then cannot write to its end.
    let text = sources::text(name, output);
    let status = child.wait().with_context(|| format!("failed to render {name}"))?;
    let text = text?;
    if !status.success() {
        bail!("failed to render {name}: {} ended with {status}; its message is above", program.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helm_gets_the_chart_behind_its_options() {
        let chart = "oci://ghcr.io/acme/charts/shop";
        let args = ChartArgs {
            chart: Some(chart.into()),
            version: Some("1.4.0".into()),
            values: vec!["a.yaml".into(), "b.yaml".into()],
        };
        assert_eq!(
            args.arguments(chart),
            ["template", "--version=1.4.0", "--values=a.yaml", "--values=b.yaml", "--", RELEASE, chart]
        );
    }

    #[test]
    fn a_missing_helm_is_one_line_with_what_to_install() {
        let error = render("no-such-helm".as_ref(), &[], "chart x").unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.starts_with("failed to render chart x: no-such-helm is not in PATH; install helm"),
            "{error}"
        );
        assert!(error.contains("--from") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn the_output_of_the_program_is_the_text_unless_it_fails() {
        let run = |script: &str| render("sh".as_ref(), &["-c".into(), script.into()], "chart x");
        assert_eq!(run("echo 'kind: Pod'").unwrap(), "kind: Pod\n");
        let error = run("echo 'kind: Pod'; exit 3").unwrap_err().to_string();
        assert!(error.contains("sh ended with exit status: 3"), "{error}");
        let error = run("yes").unwrap_err().to_string();
        assert!(error.contains("longer than 64 MiB"), "{error}");
    }
}
