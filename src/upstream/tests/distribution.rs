//! distribution's registry as an upstream, where it is installed.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use futures_util::StreamExt as _;
use quinistry_fetch::{ManifestHead, SourceError, Upstream as _, Wanted};
use quinistry_oci::{Descriptor, Digest, Reference, media_type, to_json};
use reqwest::StatusCode;

use super::{repository, tag};
use crate::{Insecure, Remote, RemoteOptions};

/// Registry in a folder, on a free port of loopback; ended when dropped.
struct Distribution {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Distribution {
    /// Starts version 3. `None`, and a line that says so, if the program is neither in `PATH` nor in a folder of the
    /// cache of `.ci/tools`.
    fn start() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache =
            cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache"))).unwrap_or_default();
        let mut folders = env::split_paths(&path).chain([cache.join("quinistry/tools/registry-3.1.2")]);
        let Some(program) =
            folders.find_map(|folder| Some(folder.join("registry")).filter(|path| path.is_file()))
        else {
            let is_strict = env::var_os("QUINISTRY_TESTS_STRICT").is_some();
            assert!(!is_strict, "QUINISTRY_TESTS_STRICT is set, and this machine lacks registry");
            println!("skipped: this test needs registry");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let root = folder.path().join("store");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             log: {{level: info}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let host = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the registry ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ' ', ',', '\n']).next().unwrap().to_owned();
            }
        };
        // The registry must not block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Self { child, url: format!("http://{host}/"), _folder: folder })
    }

    async fn push_blob(&self, client: &reqwest::Client, bytes: &Bytes) {
        let begun = client.post(format!("{}v2/team/app/blobs/uploads/", self.url)).send().await.unwrap();
        let location = begun.headers()["location"].to_str().unwrap().to_owned();
        let url = format!("{location}&digest={}", Digest::sha256(bytes));
        let done = client.put(url).body(bytes.clone()).send().await.unwrap();
        assert_eq!(done.status(), StatusCode::CREATED);
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn distribution_is_an_upstream() {
    let Some(registry) = Distribution::start() else { return };
    let remote = Remote::new(RemoteOptions {
        insecure: Insecure::Private,
        ..RemoteOptions::new("distribution", registry.url.clone())
    })
    .unwrap();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(quinistry_client::default_configuration())
        .no_proxy();
    let client = client.build().unwrap();
    let layer: Bytes =
        (0..1_000_003_u32).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>().into();
    let config = Bytes::from_static(b"{}");
    registry.push_blob(&client, &layer).await;
    registry.push_blob(&client, &config).await;
    let descriptor = |kind, bytes| String::from_utf8(to_json(&Descriptor::of(kind, bytes))).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::OCI_MANIFEST,
        descriptor(media_type::OCI_CONFIG, &config),
        descriptor(media_type::OCI_LAYER_TAR, &layer)
    );
    for tag in ["1", "2", "latest"] {
        let put = client.put(format!("{}v2/team/app/manifests/{tag}", registry.url));
        let put = put.header("content-type", media_type::OCI_MANIFEST).body(manifest.clone());
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    }

    let (app, digest) = (repository("team/app"), Digest::sha256(manifest.as_bytes()));
    let ManifestHead::Found(head) = remote.head_manifest(&app, &tag("1"), None).await.unwrap() else {
        panic!("nothing was known");
    };
    assert_eq!(head.digest.as_ref(), Some(&digest));
    assert_eq!(head.media_type.as_deref(), Some(media_type::OCI_MANIFEST));
    assert_eq!(head.length, Some(manifest.len() as u64));
    let unchanged = remote.head_manifest(&app, &tag("1"), Some(&digest)).await.unwrap();
    assert_eq!(unchanged, ManifestHead::Unchanged);
    let found = remote.get_manifest(&app, &Reference::Digest(digest.clone())).await.unwrap();
    assert_eq!(found.bytes, manifest.as_bytes());
    let missing = remote.get_manifest(&app, &tag("3")).await;
    assert!(matches!(missing, Err(SourceError::NotFound)), "{missing:?}");

    let tags = remote.tags(&app, 10_000).await.unwrap();
    assert_eq!(tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1", "2", "latest"]);
    assert_eq!(remote.tags(&app, 2).await.unwrap().len(), 2);
    assert!(matches!(remote.tags(&repository("none"), 10).await, Err(SourceError::NotFound)));
    assert_eq!(remote.referrers(&app, &digest).await.unwrap(), []);

    let blob = Digest::sha256(&layer);
    assert_eq!(remote.head_blob(&app, &blob).await.unwrap(), Some(layer.len() as u64));
    let source = remote.blobs(&app);
    let wanted = |from, validator| Wanted { digest: blob.clone(), length: None, from, validator };
    let (head, mut body) = source.open(wanted(0, None)).await.unwrap();
    assert_eq!((head.length, head.digest.as_ref()), (Some(layer.len() as u64), Some(&blob)));
    let mut bytes = body.next().await.unwrap().unwrap().to_vec();
    drop(body);
    let from = bytes.len() as u64;
    let (rest, mut body) = source.open(wanted(from, head.validator.clone())).await.unwrap();
    assert_eq!((rest.from, &rest.validator), (from, &head.validator));
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    assert!(bytes == layer, "{} bytes", bytes.len());
}
