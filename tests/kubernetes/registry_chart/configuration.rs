//! The configuration file that the chart writes: its content, and the variables beside it with secrets.

use serde_json::{Value, json};

use super::{S3, config, container, file, objects};
use crate::chart::helm::{Helm, only};

/// Returns the variables of the container with their sources.
fn variables(objects: &[Value]) -> Vec<(String, Value)> {
    let variables = container(objects)["env"].as_array().cloned().unwrap_or_default();
    variables
        .into_iter()
        .map(|variable| {
            (variable["name"].as_str().unwrap().to_owned(), variable["valueFrom"]["secretKeyRef"].clone())
        })
        .collect()
}

fn checksum(objects: &[Value]) -> String {
    let annotations = &only(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"];
    annotations["checksum/config"].as_str().unwrap().to_owned()
}

#[test]
fn a_changed_configuration_replaces_the_pods_and_nothing_else_does() {
    let Some(helm) = Helm::find() else { return };
    let plain = checksum(&objects(&helm, &[]));
    for set in
        ["log.level=debug", "config.tags.maxtags=7", "storage.deletes=true", "shutdown.drainSeconds=61"]
    {
        assert_ne!(checksum(&objects(&helm, &[set])), plain, "{set}");
    }
    for set in ["service.type=NodePort", "replicas=0", "networkPolicy.enabled=true"] {
        assert_eq!(checksum(&objects(&helm, &[set])), plain, "{set}");
    }
}

#[test]
fn further_keys_are_added_and_change_defaults() {
    let Some(helm) = Helm::find() else { return };
    let sets = [
        "config.catalog.maxentries=7,config.health.storagedriver.interval=30s",
        "config.http.headers.X-Frame-Options[0]=DENY",
        "config.quinistry.tokens.enabled=true",
        "config.storage.maintenance.uploadpurging.age=24h",
    ];
    let config = config(&objects(&helm, &sets));
    assert_eq!(config["catalog"]["maxentries"], 7);
    assert_eq!(config["health"]["storagedriver"], json!({"enabled": true, "interval": "30s"}));
    assert_eq!(config["http"]["headers"]["X-Frame-Options"], json!(["DENY"]));
    assert_eq!(config["http"]["addr"], ":5000");
    assert_eq!(config["quinistry"]["tokens"]["enabled"], true);
    assert_eq!(config["storage"]["filesystem"]["rootdirectory"], "/data");
    assert_eq!(config["storage"]["maintenance"]["uploadpurging"]["age"], "24h");
}

#[test]
fn a_bucket_has_the_keys_of_distribution_and_its_secrets_in_variables() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(
        &helm,
        &[
            S3,
            "storage.s3.chunksize=33554432,storage.credentials.existingSecret=bucket",
            "httpSecret.existingSecret=signing",
        ],
    );
    let storage = &config(&objects)["storage"];
    let s3 = json!({"bucket": "books", "region": "eu-central-1", "chunksize": 33_554_432});
    assert_eq!(*storage, json!({"s3": s3, "delete": {"enabled": false}}));
    assert!(file(&objects).contains("chunksize: 33554432\n"), "no exponent");
    let key = |name: &str, key: &str| json!({"name": name, "key": key});
    let expected = [
        ("REGISTRY_HTTP_SECRET", key("signing", "secret")),
        ("REGISTRY_STORAGE_S3_ACCESSKEY", key("bucket", "accesskey")),
        ("REGISTRY_STORAGE_S3_SECRETKEY", key("bucket", "secretkey")),
    ];
    assert_eq!(variables(&objects), expected.map(|(name, source)| (name.to_owned(), source)));
}

#[test]
fn a_bucket_without_a_secret_is_reached_by_the_identity_of_the_pod() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(&helm, &[S3, "serviceAccount.annotations.role=books"]);
    assert!(variables(&objects).is_empty());
    assert_eq!(only(&objects, "ServiceAccount")["metadata"]["annotations"]["role"], "books");
}

#[test]
fn google_gets_a_file_and_azure_a_variable() {
    let Some(helm) = Helm::find() else { return };
    let secret = "storage.credentials.existingSecret=bucket";
    let google = objects(&helm, &["storage.type=gcs,storage.gcs.bucket=books", secret]);
    let path = config(&google)["storage"]["gcs"]["keyfile"].as_str().unwrap().to_owned();
    assert_eq!(path, "/etc/quinistry/bucket/key.json");
    let mounts = container(&google)["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap())));
    assert!(variables(&google).is_empty());

    let azure = "storage.type=azure,storage.azure.accountname=library,storage.azure.container=books";
    for (kind, more, variable, key) in [
        ("shared_key", "replicas=1", "REGISTRY_STORAGE_AZURE_ACCOUNTKEY", "accountkey"),
        (
            "client_secret",
            "storage.azure.credentials.clientid=c,storage.azure.credentials.tenantid=t",
            "REGISTRY_STORAGE_AZURE_CREDENTIALS_SECRET",
            "clientsecret",
        ),
    ] {
        let objects =
            objects(&helm, &[azure, secret, &format!("storage.azure.credentials.type={kind}"), more]);
        assert_eq!(config(&objects)["storage"]["azure"]["credentials"]["type"], kind);
        let source = json!({"name": "bucket", "key": key});
        assert_eq!(variables(&objects), [(variable.to_owned(), source)]);
    }
}

#[test]
fn users_and_certificate_are_read_from_the_mounted_secrets() {
    let Some(helm) = Helm::find() else { return };
    let objects = objects(
        &helm,
        &["auth.htpasswd.existingSecret=users,auth.htpasswd.key=passwords,tls.existingSecret=certificate"],
    );
    let config = config(&objects);
    let htpasswd = json!({"realm": "registry", "path": "/etc/quinistry/auth/passwords"});
    assert_eq!(config["auth"], json!({"htpasswd": htpasswd}));
    let tls = json!({"certificate": "/etc/quinistry/tls/tls.crt", "key": "/etc/quinistry/tls/tls.key"});
    assert_eq!(config["http"]["tls"], tls);
    for name in ["auth", "tls"] {
        let mounts = container(&objects)["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
        assert_eq!(mount["mountPath"], format!("/etc/quinistry/{name}"));
    }
}

#[test]
fn variables_of_the_values_come_last() {
    let Some(helm) = Helm::find() else { return };
    let objects =
        objects(&helm, &["httpSecret.existingSecret=s,extraEnv[0].name=RUST_LOG,extraEnv[0].value=warn"]);
    let env = container(&objects)["env"].as_array().unwrap();
    assert_eq!(env.len(), 2);
    assert_eq!(env[1], json!({"name": "RUST_LOG", "value": "warn"}));
    assert!(container(&super::objects(&helm, &[]))["env"].is_null(), "an empty list is left out");
}
