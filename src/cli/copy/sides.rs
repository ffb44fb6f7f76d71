//! Connections of `copy`: one for each side, whose registries may need different certificates.

use std::path::PathBuf;

use super::super::remote::{ConnectionArgs, TlsArgs, client, warn_unverified};
use crate::client::Client;
use crate::oci::ImageReference;

/// Arguments of each side. Those without a prefix hold for both, unless the side has the same one, or one that
/// contradicts it.
#[derive(Debug, clap::Args)]
pub(super) struct SidesArgs {
    #[command(flatten)]
    from: FromArgs,
    #[command(flatten)]
    to: ToArgs,
}

/// Arguments of the side to copy from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection of one side")]
#[allow(clippy::struct_field_names, reason = "the fields are named like their options")]
struct FromArgs {
    /// Use plain HTTP for the registry to copy from
    #[arg(long, conflicts_with_all = ["from_ca", "from_cert", "from_insecure_skip_tls_verify"])]
    from_plain_http: bool,
    /// As --ca, for the registry to copy from
    #[arg(long, value_name = "FILE")]
    from_ca: Option<PathBuf>,
    /// As --cert, for the registry to copy from
    #[arg(long, value_name = "FILE", requires = "from_key")]
    from_cert: Option<PathBuf>,
    /// As --key, for the registry to copy from
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    from_key: Option<PathBuf>,
    /// As --insecure-skip-tls-verify, for the registry to copy from
    #[arg(long)]
    from_insecure_skip_tls_verify: bool,
}

/// Arguments of the side to copy to.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection of one side")]
#[allow(clippy::struct_field_names, reason = "the fields are named like their options")]
struct ToArgs {
    /// Use plain HTTP for the registry to copy to
    #[arg(long, conflicts_with_all = ["to_ca", "to_cert", "to_insecure_skip_tls_verify"])]
    to_plain_http: bool,
    /// As --ca, for the registry to copy to
    #[arg(long, value_name = "FILE")]
    to_ca: Option<PathBuf>,
    /// As --cert, for the registry to copy to
    #[arg(long, value_name = "FILE", requires = "to_key")]
    to_cert: Option<PathBuf>,
    /// As --key, for the registry to copy to
    #[arg(long, value_name = "FILE", requires = "to_cert")]
    to_key: Option<PathBuf>,
    /// As --insecure-skip-tls-verify, for the registry to copy to
    #[arg(long)]
    to_insecure_skip_tls_verify: bool,
}

// === impl SidesArgs ===

impl SidesArgs {
    /// Creates the clients of both sides: one for both if nothing distinguishes the sides.
    pub(super) fn clients(
        self,
        both: ConnectionArgs,
        from: &ImageReference,
        to: &ImageReference,
    ) -> anyhow::Result<(Client, Client)> {
        let (from_side, to_side) = (ConnectionArgs::from(self.from), ConnectionArgs::from(self.to));
        if from_side == NOTHING && to_side == NOTHING {
            let client = both.client()?;
            return Ok((client.clone(), client));
        }
        Ok((side_client(from_side.or(&both), from)?, side_client(to_side.or(&both), to)?))
    }
}

impl From<FromArgs> for ConnectionArgs {
    fn from(side: FromArgs) -> Self {
        let tls = TlsArgs {
            ca: side.from_ca,
            cert: side.from_cert,
            key: side.from_key,
            insecure_skip_tls_verify: side.from_insecure_skip_tls_verify,
        };
        Self { plain_http: side.from_plain_http, tls }
    }
}

impl From<ToArgs> for ConnectionArgs {
    fn from(side: ToArgs) -> Self {
        let tls = TlsArgs {
            ca: side.to_ca,
            cert: side.to_cert,
            key: side.to_key,
            insecure_skip_tls_verify: side.to_insecure_skip_tls_verify,
        };
        Self { plain_http: side.to_plain_http, tls }
    }
}

fn side_client(side: ConnectionArgs, image: &ImageReference) -> anyhow::Result<Client> {
    if side.tls.insecure_skip_tls_verify {
        warn_unverified(image.host());
    }
    client(side.plain_http, side.tls.options())
}

/// A side without arguments.
const NOTHING: ConnectionArgs = ConnectionArgs {
    plain_http: false,
    tls: TlsArgs { ca: None, cert: None, key: None, insecure_skip_tls_verify: false },
};

// === impl ConnectionArgs ===

impl ConnectionArgs {
    /// Fills in what holds for both sides.
    fn or(self, both: &Self) -> Self {
        if self.plain_http {
            return self;
        }
        let plain_http = self == NOTHING && both.plain_http;
        let (cert, key) = match self.tls.cert {
            Some(cert) => (Some(cert), self.tls.key),
            None => (both.tls.cert.clone(), both.tls.key.clone()),
        };
        Self {
            plain_http,
            tls: TlsArgs {
                ca: self.tls.ca.or_else(|| both.tls.ca.clone()),
                cert,
                key,
                insecure_skip_tls_verify: self.tls.insecure_skip_tls_verify
                    || both.tls.insecure_skip_tls_verify,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ca(path: &str) -> ConnectionArgs {
        ConnectionArgs { tls: TlsArgs { ca: Some(path.into()), ..NOTHING.tls }, ..NOTHING }
    }

    #[test]
    fn a_side_has_what_holds_for_both_unless_it_says_otherwise() {
        let plain = ConnectionArgs { plain_http: true, ..NOTHING };
        assert_eq!(NOTHING.or(&plain), plain);
        assert_eq!(NOTHING.or(&with_ca("both")), with_ca("both"));
        assert_eq!(with_ca("side").or(&with_ca("both")), with_ca("side"));
        assert_eq!(with_ca("side").or(&plain), with_ca("side"), "a certificate means TLS");
        assert_eq!(plain.or(&with_ca("both")), ConnectionArgs { plain_http: true, ..NOTHING });
    }
}
