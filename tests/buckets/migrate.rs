//! `quinistry migrate` from distribution's folder into a bucket and back: the same objects, served by this
//! program and by distribution.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::client::{Client, Way};
use crate::stores::Replica;
use crate::support::distribution::{Distribution, Version};
use crate::support::images::{Image, Packing};
use crate::support::process::{isolated_command, output};
use crate::support::server::PROGRAM;
use crate::support::versitygw::{ACCESS_KEY, BUCKET, SECRET_KEY, Versitygw, section};

/// Number of times that a copy is killed.
const KILLS: u32 = 10;

/// Number of objects that a copy writes until it dies: more than the probe of the store does.
const WRITES_BEFORE_KILL: u32 = 35;

fn image(text: &str) -> Image {
    Image::new("amd64", &[text, "shared layer"], Packing::Gzip)
}

fn migrate(arguments: &[&str]) -> Command {
    let mut command = isolated_command(PROGRAM);
    command.arg("migrate").args(arguments).args(["-o", "json"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.stdin(Stdio::null());
    command
}

/// Runs a migration that succeeds, and returns its report.
#[track_caller]
fn migrated(arguments: &[&str]) -> Value {
    let done = output(&mut migrate(arguments)).unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stdout));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// Runs a migration that does not succeed, and returns its exit code and all that it says.
fn failed(arguments: &[&str]) -> (i32, String) {
    let done = output(&mut migrate(arguments)).unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn url(store: &Versitygw, root: &str) -> String {
    format!("s3://{BUCKET}{root}?endpoint=http://{}", store.address)
}

/// Returns the registry's files beneath a folder, by their paths, without those of uploads and of this
/// program alone. Files that a store moves at this moment are left out.
pub(crate) fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let is_own = ["/_quinistry/", "/_uploads/", "/_referrers/", ".sgwtmp"];
            if let Ok(bytes) = fs::read(&path)
                && !is_own.iter().any(|part| name.contains(part))
            {
                files.insert(name, bytes);
            }
        }
    }
    files
}

fn tag_time(root: &Path, tag: &str) -> SystemTime {
    let link = format!("docker/registry/v2/repositories/team/app/_manifests/tags/{tag}/current/link");
    fs::metadata(root.join(link)).unwrap().modified().unwrap()
}

/// Sets the time of a tag's link.
fn set_tag_time(root: &Path, tag: &str, time: SystemTime) {
    let link = format!("docker/registry/v2/repositories/team/app/_manifests/tags/{tag}/current/link");
    fs::File::open(root.join(link)).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_folder_of_distribution_goes_to_a_bucket_and_back_while_it_is_in_use() {
    let Some(store) = Versitygw::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [first, last] = ["first", "last"].map(|name| folder.path().join(name));
    let Some(old) = Distribution::on(Version::Third, &first) else { return };
    let client = Client::at(&old.host, "team/app");
    let (one, two, late) = (image("one"), image("two"), image("late"));
    client.push(Way::Patch, "v1", &one);
    client.push(Way::Put, "gone", &two);
    let pushed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    set_tag_time(&first, "v1", pushed);
    let (from, to) = (first.to_str().unwrap(), url(&store, "/team"));

    let planned = migrated(&[from, &to, "--dry-run"]);
    assert_eq!((&planned["tags"], store.keys("").len()), (&Value::from(2), 0));
    let copied = migrated(&[from, &to, "--follow"]);
    assert_eq!((&copied["tags"], &copied["faultCount"]), (&Value::from(2), &Value::from(0)), "{copied}");

    // The registry goes on, and is stopped for the last pass.
    client.push(Way::Put, "late", &late);
    client.push(Way::Put, "v2", &two);
    client.delete("manifests/gone");
    drop(old);
    let ended = migrated(&[from, &to, "--final"]);
    assert_eq!(ended["complete"], true, "{ended}");
    assert_eq!(files(&store.objects().join("team")), files(&first));

    let (code, said) = failed(&[from, &to, "--final"]);
    assert!(code == 2 && said.contains("its migration has ended"), "{code} {said}");

    let section = section(store.address, "/team");
    for serve in [ours, distribution] {
        serve(&section, &[("v1", &one), ("v2", &two), ("late", &late)]);
    }
    // Back, with the times at which the tags were pushed.
    migrated(&[&to, last.to_str().unwrap()]);
    assert_eq!(files(&last), files(&first));
    assert_eq!(tag_time(&last, "v1"), pushed);
    for tag in ["v2", "late"] {
        let passed = tag_time(&first, tag).duration_since(tag_time(&last, tag)).unwrap();
        assert!(passed < Duration::from_millis(1), "{tag}: {passed:?}");
    }
    let back = Distribution::on(Version::Third, &last).unwrap();
    Client::at(&back.host, "team/app").assert_image("late", &late);
}

/// Serves a bucket by this program.
fn ours(section: &str, tags: &[(&str, &Image)]) {
    let replica = Replica::start(section);
    assert_served(&Client::new(&[replica.peer()], "team/app"), tags);
}

/// Serves a bucket by distribution.
fn distribution(section: &str, tags: &[(&str, &Image)]) {
    let registry = Distribution::on_storage(Version::Third, section).unwrap();
    assert_served(&Client::at(&registry.host, "team/app"), tags);
}

fn assert_served(client: &Client, tags: &[(&str, &Image)]) {
    assert_eq!(client.tags(10).len(), tags.len());
    for (tag, image) in tags {
        client.assert_image(tag, image);
    }
}

#[test]
fn a_copy_that_is_killed_again_and_again_ends_whole() {
    let Some(store) = Versitygw::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(old) = Distribution::on(Version::Third, folder.path()) else { return };
    let images: Vec<Image> = (0..20).map(|number| image(&format!("image {number}"))).collect();
    for (number, image) in images.iter().enumerate() {
        Client::at(&old.host, &format!("team/app{}", number % 4)).push(
            Way::Put,
            &format!("v{number}"),
            image,
        );
    }
    drop(old);
    let from = folder.path().to_str().unwrap();
    let to = url(&store, "");
    let wanted = files(folder.path());
    let mut present = 0;
    for kill in 0..KILLS {
        let moment = if kill % 2 == 0 { "before" } else { "after" };
        let mut command = migrate(&[from, &to, "--jobs", "2"]);
        command.env("QUINISTRY_FAILPOINT", format!("bucket.put.{moment}:{WRITES_BEFORE_KILL}"));
        let died = output(&mut command).unwrap();
        assert_eq!(died.status.code(), None, "kill {kill}: {}", String::from_utf8_lossy(&died.stderr));
        let found = files(&store.objects());
        assert!(found.len() >= present, "kill {kill}: {} objects", found.len());
        present = found.len();
        assert_closed(&found);
    }
    assert!(present > wanted.len() / 3, "{present} objects");
    let ended = migrated(&[from, &to]);
    assert_eq!(ended["faultCount"], 0);
    assert_eq!(files(&store.objects()), wanted);

    // The way back is killed, too.
    let back = tempfile::tempdir().unwrap();
    let last = back.path().to_str().unwrap();
    let mut present = 0;
    for point in ["rename:25", "file.sync:25", "folder.sync:25"] {
        let mut command = migrate(&[&to, last, "--jobs", "2"]);
        let died = output(command.env("QUINISTRY_FAILPOINT", point)).unwrap();
        assert_eq!(died.status.code(), None, "{point}: {}", String::from_utf8_lossy(&died.stderr));
        let found = files(back.path());
        assert!(found.len() >= present, "{point}: {} files", found.len());
        assert_closed(&found);
        present = found.len();
    }
    assert!((1..wanted.len()).contains(&present), "{present} files");
    assert_eq!(migrated(&[&to, last])["faultCount"], 0);
    assert_eq!(files(back.path()), wanted);

    let replica = Replica::start(&section(store.address, ""));
    for (number, image) in images.iter().enumerate() {
        let client = Client::new(&[replica.peer()], &format!("team/app{}", number % 4));
        client.assert_image(&format!("v{number}"), image);
    }
    drop(replica);

    // A registry that was just stopped may still have requests on their way.
    let (code, said) = failed(&[from, &to]);
    assert!(code == 2 && said.contains("a registry writes to s3://"), "{code} {said}");
}

/// Fails unless each tag has its manifest, and each manifest its blobs.
#[track_caller]
fn assert_closed(found: &BTreeMap<String, Vec<u8>>) {
    for (path, link) in found.iter().filter(|(path, _)| path.ends_with("/current/link")) {
        let manifest = blob(found, std::str::from_utf8(link).unwrap());
        let manifest: Value = serde_json::from_slice(manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter();
        for part in layers.chain([&manifest["config"]]) {
            let digest = part["digest"].as_str().unwrap();
            assert!(!blob(found, digest).is_empty(), "{path}");
        }
    }
}

/// Returns the bytes of a digest.
#[track_caller]
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, digest: &str) -> &'a [u8] {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let path = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    files.get(&path).unwrap_or_else(|| panic!("{path} is missing"))
}

#[test]
fn places_that_make_no_sense_and_damaged_blobs_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let [first, last] = ["first", "last"].map(|name| folder.path().join(name));
    let (from, to) = (first.to_str().unwrap(), last.to_str().unwrap());
    for (arguments, problem) in [
        (vec![from, to], "there is no folder"),
        (vec![from, from], "FROM and TO are both"),
        (vec![from, &format!("{from}/inside")], "lies in the other"),
        (vec![from, to, "--follow", "--final"], "cannot be used with"),
        (vec![from, "s3://"], ""),
    ] {
        let (code, said) = failed(&arguments);
        assert!(code == 2 && said.contains(problem), "{code} {said}");
    }
    let Some(old) = Distribution::on(Version::Third, &first) else { return };
    let (one, two) = (image("one"), image("two"));
    let client = Client::at(&old.host, "team/app");
    client.push(Way::Put, "v1", &one);
    client.push(Way::Put, "v2", &two);
    drop(old);
    let (layer, bytes) = two.blobs().last().unwrap();
    let hex = layer.digest.hex();
    let path = first.join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    fs::write(&path, vec![0; bytes.len()]).unwrap();
    let (code, said) = failed(&[from, to]);
    assert!(code == 1 && said.contains(hex) && said.contains("team/app:v2"), "{code} {said}");
    fs::write(&path, bytes).unwrap();
    assert_eq!(migrated(&[from, to, "--final"])["complete"], true);
    let back = Distribution::on(Version::Third, &last).unwrap();
    let client = Client::at(&back.host, "team/app");
    client.assert_image("v1", &one);
    client.assert_image("v2", &two);
}

#[test]
fn a_registry_that_runs_is_not_taken_for_one_that_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let [first, last] = ["first", "last"].map(|name| folder.path().join(name));
    let (from, to) = (first.to_str().unwrap(), last.to_str().unwrap());
    let running = Replica::start(&format!("filesystem: {{rootdirectory: '{from}'}}"));
    let one = image("one");
    Client::new(&[running.peer()], "team/app").push(Way::Put, "v1", &one);
    migrated(&[from, to]);
    let (code, said) = failed(&[from, to, "--final"]);
    assert!(code == 2 && said.contains("a registry writes to"), "{code} {said}");
    drop(running);
    migrated(&[from, to, "--final"]);
    let moved = Replica::start(&format!("filesystem: {{rootdirectory: '{to}'}}"));
    Client::new(&[moved.peer()], "team/app").assert_image("v1", &one);
    let (code, said) = failed(&[from, to]);
    assert!(code == 2 && said.contains("in use"), "{code} {said}");
}

/// Copies a folder to another storage and back to another folder, by a command that finds the credentials. Compares the
/// folders, and examines all bytes of both copies.
pub(crate) fn goes_there_and_back(storage: &str, variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let [first, last] = ["first", "last"].map(|name| folder.path().join(name));
    let (from, to) = (first.to_str().unwrap(), last.to_str().unwrap());
    let registry = Replica::start(&format!("filesystem: {{rootdirectory: '{from}'}}"));
    let client = Client::new(&[registry.peer()], "team/app");
    let (one, two) = (image("one"), image("two"));
    client.push(Way::Put, "v1", &one);
    client.push(Way::Patch, "v2", &two);
    client.push_blob(Way::Put, &b"0123456789abcdef".repeat((13 << 20) / 16));
    drop(registry);
    let run = |arguments: &[&str]| {
        let mut command = isolated_command(PROGRAM);
        let done = output(command.args(arguments).envs(variables.iter().copied())).unwrap();
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(done.status.success(), "{arguments:?}: {said}");
    };
    let is_configuration = |place: &str| Path::new(place).extension() == Some("yml".as_ref());
    for (from, to) in [(from, storage), (storage, to)] {
        run(&["migrate", from, to]);
        if is_configuration(to) {
            // No other command reads all bytes of a storage that a file names.
            run(&["migrate", from, to, "--verify"]);
        } else {
            run(&["fsck", "--hash", to]);
        }
    }
    assert_eq!(files(&last), files(&first));
    let registry = Replica::start(&format!("filesystem: {{rootdirectory: '{to}'}}"));
    assert_served(&Client::new(&[registry.peer()], "team/app"), &[("v1", &one), ("v2", &two)]);
}
