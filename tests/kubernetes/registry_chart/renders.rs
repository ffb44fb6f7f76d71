//! The renders, as text that is reviewed. `QUINISTRY_UPDATE_GOLDEN=1` writes them again.

use crate::chart::helm::{EVERYTHING_OF_REGISTRY, Helm, REGISTRY, template_of};
use crate::chart::renders::compare;

use super::S3;

#[test]
fn renders_are_as_reviewed() {
    let Some(helm) = Helm::find() else { return };
    let golden = |name: &str, args: &[&str]| {
        compare(
            &format!("tests/golden/registry-chart/{name}.yaml"),
            &helm.text(&template_of(REGISTRY, args)),
        );
    };
    golden("default", &[]);
    golden("everything", EVERYTHING_OF_REGISTRY);
    golden("s3", &["--set", S3, "--set", "replicas=2,networkPolicy.enabled=true"]);
    golden(
        "gcs",
        &["--set", "storage.type=gcs,storage.gcs.bucket=books,storage.credentials.existingSecret=bucket"],
    );
    golden(
        "azure",
        &[
            "--set",
            "storage.type=azure,storage.azure.accountname=library,storage.azure.container=books",
            "--set",
            "storage.azure.credentials.type=shared_key,storage.credentials.existingSecret=bucket",
        ],
    );
    golden(
        "users",
        &[
            "--set",
            "auth.htpasswd.existingSecret=users,tls.existingSecret=certificate,test.credentialsSecret=login",
            "--set",
            "storage.deletes=true,networkPolicy.enabled=true",
        ],
    );
}
