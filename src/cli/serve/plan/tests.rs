//! Plans of the command lines that generations are started with.

use clap::Parser;

use super::*;

/// Flags of `serve`, parsed as the program does.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: crate::cli::serve::Args,
}

fn plan(line: &[&str]) -> ServePlan {
    let args = Line::try_parse_from(["serve"].iter().chain(line)).unwrap().args;
    ServePlan::of_flags(&Flags { args, log_format: None }).unwrap()
}

/// A generation is anonymous and speaks plain HTTP: nothing of users or TLS is made for it, so that no request
/// and no connection can reach such code.
#[test]
fn a_generation_has_neither_users_nor_tls() {
    let digest = format!("sha256:{}", "0".repeat(64));
    for line in [
        // A container of an image, whose command is this.
        &[][..],
        // Pods of the operator.
        &["--listen", "[::]:8080", "--expect-digest", &digest],
        &["--listen", "127.0.0.1:5000", "--expect-digest", &digest],
        // A process of `bootstrap`.
        &["--listen-stdin", "--layer", "tar", "--die-with", "1"],
    ] {
        let plan = plan(line);
        let access = plan.load_access(&UserState::new().unwrap()).unwrap();
        assert!(access.control.is_none() && access.files.is_empty(), "{line:?}");
        assert!(plan.live.settings.access.is_none(), "{line:?}");
        assert!(plan.load_tls().unwrap().is_none() && !plan.proxy_protocol, "{line:?}");
        assert!(plan.live.audit.is_none() && plan.live.settings.upstreams.is_none(), "{line:?}");
    }
}

#[test]
fn an_archive_is_checked_while_it_is_served() {
    let [check] = &plan(&["--bundle", "a.tar"]).live.health[..] else { panic!("there is one check") };
    assert_eq!((check.name.as_str(), &check.kind), ("bundle", &HealthCheckKind::Storage));
    assert!(plan(&["--storage", "memory"]).live.health.is_empty());
}
