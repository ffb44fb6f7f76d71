//! Rules of storage in a bucket.

use serde_json::{Map, Value};

use super::super::findings::Findings;
use super::super::tree::{ConfigNode, NodeKind};
use super::super::{scalar, schema, values};
use super::is_empty;

/// Shortest part of an upload, but for the last one, in bytes (S3 user guide, multipart upload limits).
pub(in super::super) const MIN_PART_BYTES: u64 = 5 << 20;

/// Length of a block of Azure, in bytes: that of the parts of S3, since distribution has no key for it.
pub(in super::super) const AZURE_PART_BYTES: u64 = 10 << 20;

/// Longest part of an upload, in bytes.
const MAX_PART_BYTES: i64 = 5 << 30;

/// Unit of the parts of Google Cloud Storage, in bytes.
const GCS_CHUNK_UNIT: i64 = 256 << 10;

/// Classes whose objects must be restored before they can be read.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Longest lifetime of a signed URL: the signatures of S3 and of Google Cloud Storage last a week, of which up to five
/// minutes have passed when a client gets the URL.
const MAX_EXPIRY: std::time::Duration = std::time::Duration::from_mins(7 * 24 * 60 - 5);

/// Shortest lifetime of a signed URL, in which a client begins to read a blob.
const MIN_EXPIRY: std::time::Duration = std::time::Duration::from_mins(1);

/// Checks the section of a bucket, and the keys of this program that concern it.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    s3(tree, findings);
    gcs(tree, findings);
    azure(tree, findings);
    names(tree, findings);
    own(tree, findings);
    memory(tree, findings);
}

/// Refuses parts that are longer than the memory for them: a part is in memory until the store has it.
fn memory(tree: &ConfigNode, findings: &mut Findings) {
    const MEMORY: &str = "quinistry.uploads.memory";
    let Some(storage) = tree.at("storage") else { return };
    let Some(driver) = ["s3", "gcs", "azure"].into_iter().find(|driver| storage.entry(driver).is_some())
    else {
        return;
    };
    let chunk = format!("storage.{driver}.chunksize");
    let chunk_node = given(tree, &chunk);
    let written = chunk_node.and_then(|node| values::integer(node, 0).ok());
    let part = written.and_then(|bytes| u64::try_from(bytes).ok()).or_else(|| default_size(&chunk));
    let part = part.unwrap_or(AZURE_PART_BYTES).max(MIN_PART_BYTES);
    let memory_node = given(tree, MEMORY);
    let memory = match memory_node {
        Some(node) => values::size(node).ok(),
        None => default_size(MEMORY),
    };
    let Some(memory) = memory.filter(|memory| *memory < part) else { return };
    let what = if driver == "azure" { "a part of an upload".to_owned() } else { chunk.clone() };
    if memory_node.is_some() {
        let message = format!(
            "must not be less than {what}, which is {part}: a part is in memory until the store has it; set {part} or more"
        );
        error(tree, MEMORY, &message, findings);
    } else {
        let message = format!(
            "must not be greater than {MEMORY}, which is {memory}: a part is in memory until the store has it; set \
             {MEMORY} to {part} or more"
        );
        error(tree, &chunk, &message, findings);
    }
}

/// Returns the default of a key that is a number of bytes.
fn default_size(path: &str) -> Option<u64> {
    schema::find(path).and_then(|key| scalar::size(key.default))
}

/// Returns a value that is neither absent nor empty.
fn given<'a>(tree: &'a ConfigNode, path: &str) -> Option<&'a ConfigNode> {
    tree.at(path).filter(|node| !node.is_null() && !is_empty(node))
}

fn is_on(tree: &ConfigNode, path: &str) -> bool {
    tree.at(path).is_some_and(|node| values::boolean(node).is_ok_and(|is_on| is_on))
}

fn error(tree: &ConfigNode, path: &str, message: &str, findings: &mut Findings) {
    let (section, _) = path.rsplit_once('.').unwrap_or((path, ""));
    let place = tree.at(path).or_else(|| tree.at(section)).unwrap_or(tree);
    findings.error(&place.origin, path, message.into());
}

fn warn_if_on(tree: &ConfigNode, path: &str, message: &str, findings: &mut Findings) {
    if is_on(tree, path)
        && let Some(node) = tree.at(path)
    {
        findings.warn(&node.origin, path, message.into());
    }
}

fn s3(tree: &ConfigNode, findings: &mut Findings) {
    let Some(s3) = tree.at("storage").and_then(|storage| storage.entry("s3")) else { return };
    if given(tree, "storage.s3.region").is_none() && given(tree, "storage.s3.regionendpoint").is_none() {
        let message = "is missing; name the region of the bucket, such as eu-central-1, or a regionendpoint";
        findings.error(&s3.origin, "storage.s3.region", message.into());
    }
    for (key, other) in
        [("accesskey", "secretkey"), ("secretkey", "accesskey"), ("sessiontoken", "secretkey")]
    {
        let (path, other) = (format!("storage.s3.{key}"), format!("storage.s3.{other}"));
        if given(tree, &path).is_some() && given(tree, &other).is_none() {
            let message =
                format!("needs {other}; give both, or none of them to take those of the environment");
            error(tree, &path, &message, findings);
        }
    }
    if let Some(node) = tree.at("storage.s3.v4auth")
        && values::boolean(node).is_ok_and(|is_on| !is_on)
    {
        error(tree, "storage.s3.v4auth", "requests are always signed by version 4; remove it", findings);
    }
    if is_on(tree, "storage.s3.accelerate") && is_on(tree, "storage.s3.forcepathstyle") {
        let message = "is not possible with forcepathstyle; remove one of them";
        error(tree, "storage.s3.accelerate", message, findings);
    }
    if let Some(class) = given(tree, "storage.s3.storageclass").and_then(ConfigNode::as_text)
        && ARCHIVES.contains(&class.to_ascii_uppercase().as_str())
    {
        let message = "objects of an archive cannot be read at once; use another class, such as STANDARD_IA";
        error(tree, "storage.s3.storageclass", message, findings);
    }
    if given(tree, "storage.s3.keyid").is_some() && !is_on(tree, "storage.s3.encrypt") {
        let message = "has no effect without encrypt: true, and objects would be stored without this key; set \
                       encrypt, or remove it";
        error(tree, "storage.s3.keyid", message, findings);
    }
    for key in ["chunksize", "multipartcopychunksize", "multipartcopythresholdsize"] {
        let path = format!("storage.s3.{key}");
        if tree
            .at(&path)
            .is_some_and(|node| values::integer(node, 0).is_ok_and(|bytes| bytes > MAX_PART_BYTES))
        {
            error(tree, &path, "must not be greater than 5368709120, which is 5 GiB", findings);
        }
    }
    skip_verify(tree, "storage.s3.skipverify", findings);
    let message =
        "the cipher module of this program is not validated; the endpoint alone does not make it so";
    warn_if_on(tree, "storage.s3.usefipsendpoint", message, findings);
}

fn skip_verify(tree: &ConfigNode, path: &str, findings: &mut Findings) {
    let message = "the certificate of the store is not verified, so that a machine between can read and change \
                   everything; trust its authority by SSL_CERT_FILE instead";
    warn_if_on(tree, path, message, findings);
}

fn gcs(tree: &ConfigNode, findings: &mut Findings) {
    if let Some(node) = tree.at("storage.gcs.chunksize")
        && values::integer(node, 0).is_ok_and(|bytes| bytes % GCS_CHUNK_UNIT != 0)
    {
        error(tree, "storage.gcs.chunksize", "must be a multiple of 262144, which is 256 KiB", findings);
    }
    if let Some(node) = tree.at("storage.gcs.credentials").filter(|node| !node.is_null()) {
        if credentials_of_gcs(node).is_none() {
            let message = "must be the key of a service account, as a map with type, client_email and private_key, or an \
                           external_account with audience, token_url and credential_source";
            error(tree, "storage.gcs.credentials", message, findings);
        }
        if given(tree, "storage.gcs.keyfile").is_some() {
            error(tree, "storage.gcs.credentials", "is given besides keyfile; remove one of them", findings);
        }
    }
}

/// Returns the key of a service account, or an external account, as JSON.
pub(in super::super) fn credentials_of_gcs(node: &ConfigNode) -> Option<Value> {
    let members = json(node)?;
    let needed: &[&str] = match members.get("type").map(Value::as_str) {
        None | Some(Some("service_account")) => &["client_email", "private_key"],
        Some(Some("external_account")) => &["audience", "token_url", "credential_source"],
        Some(_) => return None,
    };
    needed.iter().all(|member| members.get(member).is_some()).then_some(members)
}

/// Returns a map as JSON, all scalars as texts; `None` for other values.
fn json(node: &ConfigNode) -> Option<Value> {
    let NodeKind::Map(entries) = &node.kind else { return None };
    let members = entries.iter().map(|entry| {
        let value = match entry.value.as_text() {
            Some(text) => text.into(),
            None => json(&entry.value)?,
        };
        Some((entry.key.to_string(), value))
    });
    members.collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn azure(tree: &ConfigNode, findings: &mut Findings) {
    let Some(azure) = tree.at("storage.azure") else { return };
    let kind =
        azure.at("credentials.type").and_then(ConfigNode::as_text).unwrap_or_default().to_ascii_lowercase();
    let needed: &[&str] = match kind.as_str() {
        "client_secret" => &["credentials.clientid", "credentials.tenantid", "credentials.secret"],
        "shared_key" => &["accountkey"],
        _ => &[],
    };
    for key in needed {
        let path = format!("storage.azure.{key}");
        if given(tree, &path).is_none() {
            error(tree, &path, &format!("is missing, and credentials.type is {kind}"), findings);
        }
    }
    skip_verify(tree, "storage.azure.skipverify", findings);
}

/// Refuses names that could leave their place in a URL.
fn names(tree: &ConfigNode, findings: &mut Findings) {
    let keys = ["s3.bucket", "gcs.bucket", "azure.accountname", "azure.container"];
    for path in keys.map(|key| format!("storage.{key}")) {
        let Some(node) = tree.at(&path).filter(|node| matches!(node.kind, NodeKind::Scalar { .. })) else {
            continue;
        };
        let Some(text) = node.as_text().filter(|_| !node.is_null()) else { continue };
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || matches!(text, "." | "..") || !text.bytes().all(is_name_byte) {
            error(tree, &path, "must be a name of letters, digits, ., - and _", findings);
        }
    }
}

fn own(tree: &ConfigNode, findings: &mut Findings) {
    let has_bucket = ["s3", "gcs", "azure"]
        .iter()
        .any(|driver| tree.at("storage").is_some_and(|storage| storage.entry(driver).is_some()));
    for key in ["exclusive", "redirect", "uploads", "azure"] {
        let path = format!("quinistry.{key}");
        let node = tree.at(&path).filter(|node| !node.is_idle());
        let is_used = match key {
            "azure" => tree.at("storage.azure").is_some(),
            "exclusive" => has_bucket || tree.at("storage.filesystem").is_some(),
            _ => has_bucket,
        };
        if let Some(node) = node.filter(|_| !is_used) {
            let place = if key == "exclusive" { "a bucket or a folder" } else { "such a bucket" };
            findings.warn(&node.origin, &path, format!("has no effect without storage in {place}"));
        }
    }
    let path = "quinistry.redirect.expiry";
    if let Some(node) = tree.at(path)
        && let Ok(written) = values::duration(node)
        && !written.duration.is_zero()
        && !(MIN_EXPIRY..=MAX_EXPIRY).contains(&written.duration)
    {
        findings.error(&node.origin, path, "must be from 1m to 167h55m".into());
    }
}
