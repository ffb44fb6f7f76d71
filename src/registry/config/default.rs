//! Built-in configuration of a start without a file.

use super::findings::Findings;
use super::tree::ConfigNode;
use super::yaml::{self, Place, YamlBudget};

/// Configuration in the manner of the file in the image `registry:2`.
const TEXT: &str = "\
version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";

/// Returns the built-in configuration.
pub(super) fn tree() -> ConfigNode {
    let parsed = yaml::parse(TEXT, &Place::Default, &mut YamlBudget::default(), &mut Findings::default());
    parsed.ok().flatten().expect("the built-in configuration is valid YAML")
}
