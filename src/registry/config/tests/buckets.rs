//! Storage in buckets: what is accepted, what is refused, and what is warned about.

use super::{accepted, lines, load_text};
use crate::config::{AzureLogin, BucketConfig, BucketStore, S3Config, StorageLocation};

fn bucket(storage: &str) -> BucketConfig {
    let loaded = load_text(&format!("version: 0.1\nstorage: {storage}\n"), &[]);
    match &accepted(&loaded).storage.location {
        StorageLocation::Bucket(bucket) => (**bucket).clone(),
        other => panic!("{other:?}"),
    }
}

fn s3(keys: &str) -> S3Config {
    match bucket(&format!("{{s3: {{bucket: a, region: b{keys}}}}}")).store {
        BucketStore::S3(s3) => s3,
        other => panic!("{other:?}"),
    }
}

fn problems(text: &str) -> Vec<String> {
    lines(&load_text(&format!("version: 0.1\n{text}\n"), &[]))
}

#[test]
fn the_old_name_of_the_s3_driver_means_the_same() {
    assert_eq!(bucket("{s3aws: {bucket: a, region: b, chunksize: 6291456}}"), {
        bucket("{s3: {bucket: a, region: b, chunksize: 6291456}}")
    });
    let both = problems("storage: {s3: {bucket: a, region: b}, s3aws: {bucket: a, region: b}}");
    assert!(both.iter().any(|line| line.contains("only one is possible")), "{both:?}");
}

#[test]
fn an_endpoint_has_path_style_unless_the_file_says_otherwise() {
    assert!(!s3("").path_style);
    assert!(s3(", regionendpoint: minio").path_style);
    assert!(!s3(", regionendpoint: minio, forcepathstyle: false").path_style);
    assert!(s3(", forcepathstyle: true").path_style);
}

#[test]
fn headers_of_distribution_that_stores_refuse_are_left_out() {
    assert_eq!(s3(", objectacl: private").acl, None);
    assert_eq!(s3(", storageclass: none").storage_class, None);
    assert_eq!(s3("").storage_class.as_deref(), Some("STANDARD"));
}

#[test]
fn credentials_of_azure_are_those_of_the_type() {
    let azure = |keys: &str| match bucket(&format!("{{azure: {{accountname: a, container: b{keys}}}}}")).store
    {
        BucketStore::Azure(azure) => azure.credentials,
        other => panic!("{other:?}"),
    };
    assert_eq!(azure(""), AzureLogin::Environment);
    assert!(matches!(azure(", accountkey: c"), AzureLogin::SharedKey(_)));
    assert!(matches!(azure(", accountkey: c, credentials: {type: shared_key}"), AzureLogin::SharedKey(_)));
    assert_eq!(azure(", accountkey: c, credentials: {type: default_credentials}"), AzureLogin::Environment);
    let client = azure(", credentials: {type: client_secret, clientid: c, tenantid: d, secret: e}");
    assert!(matches!(client, AzureLogin::ClientSecret { .. }));
}

#[test]
fn credentials_of_google_are_a_key_or_an_external_account() {
    let gcs = |credentials: &str| match bucket(&format!("{{gcs: {{bucket: a, credentials: {credentials}}}}}"))
        .store
    {
        BucketStore::Gcs(gcs) => gcs.credentials.unwrap().0,
        other => panic!("{other:?}"),
    };
    assert!(gcs("{client_email: a, private_key: b}").contains("\"private_key\":\"b\""));
    let source = "{file: /var/token, format: {type: text}}";
    let account =
        format!("{{type: external_account, audience: a, token_url: b, credential_source: {source}}}");
    let account: serde_json::Value = serde_json::from_str(&gcs(&account)).unwrap();
    assert_eq!(account["credential_source"]["format"]["type"], "text");
}

#[test]
fn a_bucket_that_would_be_another_than_meant_is_refused() {
    let s3 = |keys: &str| format!("storage: {{s3: {{bucket: a, {keys}}}}}");
    for (text, problem) in [
        (s3("chunksize: 6291456"), "storage.s3.region: is missing"),
        (s3("region: b, accesskey: c"), "storage.s3.accesskey: needs storage.s3.secretkey"),
        (s3("region: b, secretkey: c"), "storage.s3.secretkey: needs storage.s3.accesskey"),
        (s3("region: b, sessiontoken: c"), "storage.s3.sessiontoken: needs storage.s3.secretkey"),
        (s3("region: b, v4auth: false"), "storage.s3.v4auth: requests are always signed by version 4"),
        (s3("region: b, accelerate: true, forcepathstyle: true"), "storage.s3.accelerate: is not possible"),
        (s3("region: b, storageclass: glacier"), "storage.s3.storageclass: objects of an archive"),
        (s3("region: b, keyid: c"), "storage.s3.keyid: has no effect without encrypt"),
        (s3("region: b, chunksize: 5242879"), "storage.s3.chunksize: \"5242879\" must not be less"),
        (s3("region: b, chunksize: 5368709121"), "storage.s3.chunksize: must not be greater"),
        (s3("region: b, multipartcopychunksize: 5368709121"), "multipartcopychunksize: must not be greater"),
        (s3("region: b, multipartcopythresholdsize: 5368709121"), "multipartcopythresholdsize: must not be greater"),
        (s3("region: b, skipverfy: true"), "storage.s3.skipverfy: is not known; did you mean skipverify?"),
        ("storage: {s3: {bucket: a/b, region: b}}".into(), "storage.s3.bucket: must be a name"),
        ("storage: {s3: {bucket: \"a\\nb\", region: b}}".into(), "storage.s3.bucket: must be a name"),
        ("storage: {gcs: {bucket: a, chunksize: 262145}}".into(), "storage.gcs.chunksize: must be a multiple"),
        ("storage: {gcs: {bucket: a, credentials: {a: b}}}".into(), "storage.gcs.credentials: must be the key"),
        (
            "storage: {gcs: {bucket: a, credentials: {type: authorized_user, client_email: a, private_key: b}}}".into(),
            "storage.gcs.credentials: must be the key",
        ),
        (
            "storage: {gcs: {bucket: a, keyfile: /k, credentials: {client_email: a, private_key: b}}}".into(),
            "storage.gcs.credentials: is given besides keyfile",
        ),
        (
            "storage: {azure: {accountname: a, container: b, connectionstring: c}}".into(),
            "storage.azure.connectionstring: distribution reads it",
        ),
        (
            "storage: {azure: {accountname: a, container: b, credentials: {type: client_secret, clientid: c}}}".into(),
            "storage.azure.credentials.tenantid: is missing",
        ),
        (
            "storage: {azure: {accountname: a, container: b, credentials: {type: shared_key}}}".into(),
            "storage.azure.accountkey: is missing",
        ),
        (
            "storage: {s3: {bucket: a, region: b}}\nquinistry: {redirect: {expiry: 167h56m}}".into(),
            "quinistry.redirect.expiry: must be from 1m to 167h55m",
        ),
        (
            "storage: {s3: {bucket: a, region: b}}\nquinistry: {uploads: {memory: much}}".into(),
            "quinistry.uploads.memory: \"much\" must be a number of bytes",
        ),
        (
            "storage: {s3: {bucket: a, region: b}}\nquinistry: {uploads: {memory: 10239KiB}}".into(),
            "quinistry.uploads.memory: must not be less than storage.s3.chunksize, which is 10485760",
        ),
        (
            "storage: {gcs: {bucket: a, chunksize: 262144}}\nquinistry: {uploads: {memory: 1MiB}}".into(),
            "quinistry.uploads.memory: must not be less than storage.gcs.chunksize, which is 5242880",
        ),
        (
            "storage: {azure: {accountname: a, container: b}}\nquinistry: {uploads: {memory: 8MiB}}".into(),
            "quinistry.uploads.memory: must not be less than a part of an upload, which is 10485760",
        ),
        (
            "storage: {s3: {bucket: a, region: b, chunksize: 268435457}}".into(),
            "storage.s3.chunksize: must not be greater than quinistry.uploads.memory, which is 268435456",
        ),
    ] {
        let found = problems(&text);
        let is_error = |line: &&String| line.contains(": error: ") && line.contains(problem);
        assert!(found.iter().any(|line| is_error(&line)), "{text}: {found:?}");
    }
}

#[test]
fn the_memory_for_parts_holds_one_at_least() {
    let memory = |chunk: &str, memory: &str| {
        let text =
            format!("{{s3: {{bucket: a, region: b{chunk}}}}}\nquinistry: {{uploads: {{memory: {memory}}}}}");
        bucket(&text).memory_bytes
    };
    assert_eq!(memory("", "10MiB"), 10 << 20);
    assert_eq!(memory(", chunksize: 5242880", "5MiB"), 5 << 20);
    assert_eq!(memory(", chunksize: 1073741824", "1GiB"), 1 << 30);
}

#[test]
fn settings_that_weaken_a_bucket_or_do_nothing_are_warned_about() {
    for (text, problem) in [
        ("storage: {s3: {bucket: a, region: b, skipverify: true}}", "storage.s3.skipverify: the certificate"),
        (
            "storage: {s3: {bucket: a, region: b, usefipsendpoint: true}}",
            "storage.s3.usefipsendpoint: the cipher",
        ),
        ("storage: {s3: {bucket: a, region: b, loglevel: debug}}", "storage.s3.loglevel: has no effect"),
        (
            "storage: {azure: {accountname: a, container: b, skipverify: true}}",
            "storage.azure.skipverify: the certificate",
        ),
        ("storage: inmemory\nquinistry: {exclusive: true}", "quinistry.exclusive: has no effect"),
        ("storage: inmemory\nquinistry: {redirect: {expiry: 1h}}", "quinistry.redirect: has no effect"),
        (
            "storage: {s3: {bucket: a, region: b}}\nquinistry: {azure: {legacyroot: true}}",
            "quinistry.azure: has no effect",
        ),
    ] {
        let loaded = load_text(&format!("version: 0.1\n{text}\n"), &[]);
        accepted(&loaded);
        let found = lines(&loaded);
        let is_warning = |line: &&String| line.contains(": warning: ") && line.contains(problem);
        assert!(found.iter().any(|line| is_warning(&line)), "{text}: {found:?}");
    }
}

#[test]
fn a_bucket_can_be_named_by_variables_alone() {
    let variables = [
        ("REGISTRY_STORAGE", "s3"),
        ("REGISTRY_STORAGE_S3_BUCKET", "images"),
        ("REGISTRY_STORAGE_S3_REGION", "eu-central-1"),
        ("REGISTRY_STORAGE_S3_SECRETKEY", "verysecret"),
        ("REGISTRY_STORAGE_S3_ACCESSKEY", "AKIAEXAMPLE"),
    ];
    let loaded = super::load_variables(&variables);
    let config = accepted(&loaded);
    assert!(matches!(config.storage.location, StorageLocation::Bucket(_)));
    assert!(!format!("{config:?}").contains("verysecret"));
    assert!(!loaded.show().unwrap().contains("verysecret"));
}
