//! Images as files, from outside: what is written can be read by us and by others, and nothing is left behind
//! when it cannot be written.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use quinistry::layout::{Format, Layout, LayoutError, Target, Writer};
use quinistry::oci::{Algorithm, Descriptor, Digest};

use crate::support::images::{Image, Packing, docker_archive, gzip};
use crate::support::process::{command, output};

const NAME: &str = "localhost:8080/quinistry:latest";

fn image() -> Image {
    Image::new("amd64", &["one", "two"], Packing::Plain)
}

fn write(path: &Path, format: Format, image: &Image, name: &str) {
    let mut writer = Writer::create(Target::Path(path.into()), format).unwrap();
    let saved = image.write_to(&mut writer, Some(name));
    writer.finish(&[saved]).unwrap();
}

fn read(layout: &Layout, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    layout.open_blob(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn archives_and_layouts_are_read_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Archive, Format::OciLayout] {
        let path = folder.path().join(format!("{format:?}"));
        write(&path, format, &image(), NAME);
        let layout = Layout::open(&path).unwrap();
        let root = &layout.roots()[0];
        assert_eq!((root.name.as_deref(), &root.descriptor.digest), (Some(NAME), image().digest()));
        assert_eq!(read(&layout, image().digest()), image().manifest);
        for (descriptor, bytes) in image().blobs() {
            assert_eq!(&read(&layout, &descriptor.digest), bytes);
            assert_eq!(layout.blob_size(&descriptor.digest).unwrap(), descriptor.size);
        }
        let missing = Digest::sha256(b"missing");
        assert!(matches!(layout.open_blob(&missing), Err(LayoutError::NoBlob { .. })));
    }
}

#[test]
fn the_same_image_gives_the_same_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    write(&a, Format::Archive, &image(), NAME);
    write(&b, Format::Archive, &image(), NAME);
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let mut archive = tar::Archive::new(fs::File::open(&a).unwrap());
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            entry.path().unwrap().to_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names[..3], ["oci-layout", "blobs/", "blobs/sha256/"]);
    assert_eq!(names[names.len() - 2..], ["index.json", "manifest.json"]);
}

#[test]
fn docker_finds_its_own_list_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write(&path, Format::Archive, &image(), NAME);
    let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
    let mut entry = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|e| e.path_bytes().as_ref() == b"manifest.json")
        .unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list[0]["RepoTags"], serde_json::json!([NAME]));
    assert_eq!(list[0]["Config"], format!("blobs/sha256/{}", image().config.0.digest.hex()));
    assert_eq!(list[0]["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn an_unfinished_writer_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    write(&there, Format::OciLayout, &image(), NAME);
    let before = entries(&there);
    for (path, format) in [
        (folder.path().join("a.tar"), Format::Archive),
        (folder.path().join("new"), Format::OciLayout),
        (there.clone(), Format::OciLayout),
    ] {
        let mut writer = Writer::create(Target::Path(path), format).unwrap();
        image().write_to(&mut writer, None);
        drop(writer);
    }
    assert_eq!(entries(folder.path()), ["there"]);
    assert_eq!(entries(&there), before);
}

#[test]
fn content_that_differs_from_its_descriptor_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Archive, Format::OciLayout] {
        let (descriptor, bytes) = image().config;
        let attempt = |bytes: &[u8]| {
            let mut writer = Writer::create(Target::Path(folder.path().join("x")), format).unwrap();
            let error = writer.add_blob(&descriptor, bytes).unwrap_err();
            assert!(matches!(writer.finish(&[]), Err(LayoutError::Unfinished)));
            error
        };
        assert!(matches!(attempt(&bytes[1..]), LayoutError::Size { .. }));
        assert!(matches!(attempt(&[bytes.as_slice(), b"x"].concat()), LayoutError::Size { .. }));
        let mut other = bytes.clone();
        other[0] ^= 1;
        assert!(matches!(attempt(&other), LayoutError::Digest { .. }));
    }
    assert!(entries(folder.path()).is_empty());
}

#[test]
fn a_layout_takes_further_images_and_replaces_those_of_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let other = Image::new("arm64", &["three"], Packing::Gzip);
    write(&path, Format::OciLayout, &image(), NAME);
    write(&path, Format::OciLayout, &other, "localhost:8080/other:latest");
    assert_eq!(Layout::open(&path).unwrap().roots().len(), 2);
    write(&path, Format::OciLayout, &other, NAME);
    let layout = Layout::open(&path).unwrap();
    assert!(layout.roots().iter().all(|root| root.descriptor.digest == *other.digest()));
    assert_eq!(read(&layout, image().digest()), image().manifest, "no blob is ever taken away");
    assert_eq!(entries(&path), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn somebody_elses_folder_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "x").unwrap();
    let create = |path: &Path, format| Writer::create(Target::Path(path.into()), format).unwrap_err();
    assert!(matches!(create(folder.path(), Format::OciLayout), LayoutError::Occupied(_)));
    assert!(matches!(create(folder.path(), Format::Archive), LayoutError::IsFolder(_)));
    assert!(matches!(create(&folder.path().join("precious"), Format::OciLayout), LayoutError::IsFile(_)));
    assert!(matches!(Writer::create(Target::Stdout, Format::OciLayout), Err(LayoutError::LayoutToStdout)));
    assert_eq!(entries(folder.path()), ["precious"]);
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    write(Path::new("/dev/null"), Format::Archive, &image(), NAME);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn a_full_disk_is_named() {
    let attempt = || {
        let mut writer = Writer::create(Target::Path("/dev/full".into()), Format::Archive)?;
        let (config, bytes) = image().config;
        writer.add_blob(&config, &bytes)?;
        writer.finish(&[])
    };
    assert_eq!(attempt().unwrap_err().to_string(), "failed to write /dev/full");
}

#[test]
fn what_docker_saved_becomes_an_oci_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.tar");
    fs::write(&path, docker_archive(&image(), NAME)).unwrap();
    let layout = Layout::open(&path).unwrap();
    let root = &layout.roots()[0];
    assert_eq!(root.name.as_deref(), Some(NAME));
    let manifest: quinistry::oci::ImageManifest =
        serde_json::from_slice(&read(&layout, &root.descriptor.digest)).unwrap();
    assert_eq!(manifest.config.digest, image().config.0.digest);
    let layers: Vec<_> = image().layers.into_iter().map(|(descriptor, _)| descriptor).collect();
    assert_eq!(manifest.layers, layers);
    assert_eq!(read(&layout, &manifest.layers[0].digest), image().layers[0].1);
}

/// Creates a tar of these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn what_docker_writes_as_null_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.tar");
    let config = image().config;
    let list = r#"[{"Config":"c.json","RepoTags":null,"Layers":null}]"#;
    let index = r#"{"schemaVersion":2,"manifests":null}"#;
    let docker: [(&str, &[u8]); 2] = [("c.json", &config.1), ("manifest.json", list.as_bytes())];
    let both = [docker.as_slice(), &[("index.json", index.as_bytes())]].concat();
    for files in [docker.as_slice(), &both] {
        fs::write(&path, tar(files)).unwrap();
        let layout = Layout::open(&path).unwrap();
        let manifest: quinistry::oci::ImageManifest =
            serde_json::from_slice(&read(&layout, &layout.roots()[0].descriptor.digest)).unwrap();
        assert_eq!((manifest.config.digest, manifest.layers.len()), (config.0.digest.clone(), 0));
    }
    fs::write(&path, tar(&[("index.json", index.as_bytes())])).unwrap();
    assert!(Layout::open(&path).unwrap().roots().is_empty(), "a layout without images is one");
    fs::write(&path, tar(&[("manifest.json", b"null")])).unwrap();
    assert!(Layout::open(&path).unwrap().roots().is_empty());
}

#[test]
fn files_that_tar_wrote_as_hard_links_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, content) = image().config;
    let mut files = tar(&[("first", &content), ("index.json", br#"{"schemaVersion":2}"#)]);
    files.truncate(files.len() - 1024);
    let mut tar = tar::Builder::new(files);
    let long = format!("blobs/sha512/{}", Digest::of(Algorithm::Sha512, &content).hex());
    let short = format!("blobs/sha256/{}", descriptor.digest.hex());
    for (name, first) in [(&long, "first"), (&short, long.as_str())] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        tar.append_link(&mut header, name, first).unwrap();
    }
    let path = folder.path().join("x.tar");
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    assert_eq!(read(&Layout::open(&path).unwrap(), &descriptor.digest), content);
}

#[test]
fn several_blobs_are_written_at_once_and_lie_in_the_order_in_which_they_began() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, interleaved: bool| {
        let path = folder.path().join(name);
        let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
        assert!(writer.concurrency() >= 3);
        let image = image();
        if interleaved {
            let blobs: Vec<_> = image.blobs().collect();
            let mut open: Vec<_> =
                blobs.iter().map(|(descriptor, _)| writer.begin_blob(descriptor).unwrap()).collect();
            let halves = |bytes: &[u8]| bytes.split_at(bytes.len() / 2).0.len();
            for (out, (_, bytes)) in open.iter_mut().zip(&blobs).rev() {
                out.append(&bytes[..halves(bytes)]).unwrap();
            }
            for (mut out, (_, bytes)) in open.into_iter().zip(&blobs) {
                out.append(&bytes[halves(bytes)..]).unwrap();
                out.finish().unwrap();
            }
        }
        let saved = image.write_to(&mut writer, Some(NAME));
        writer.finish(&[saved]).unwrap();
        fs::read(path).unwrap()
    };
    assert!(written("one.tar", false) == written("at-once.tar", true));
}

#[test]
fn a_device_takes_one_blob_after_the_other() {
    let mut writer = Writer::create(Target::Path("/dev/null".into()), Format::Archive).unwrap();
    assert_eq!(writer.concurrency(), 1);
    let (config, layer) = (image().config.0, image().layers[0].0.clone());
    let _begun = writer.begin_blob(&config).unwrap();
    assert!(matches!(writer.begin_blob(&layer), Err(LayoutError::Unfinished)));
}

#[test]
fn what_refers_to_an_image_of_the_layout_is_no_image_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    write(&path, Format::OciLayout, &image(), NAME);
    let mut signature = image();
    let refer = |subject: &Digest| {
        let subject = Descriptor { digest: subject.clone(), ..image().descriptor };
        let mut manifest: serde_json::Value = serde_json::from_slice(&image().manifest).unwrap();
        manifest["subject"] = serde_json::to_value(&subject).unwrap();
        manifest.to_string().into_bytes()
    };
    for (subject, images) in [(image().digest().clone(), 1), (Digest::sha256(b"elsewhere"), 2)] {
        signature.manifest = refer(&subject);
        signature.descriptor = Descriptor::of(&image().descriptor.media_type, &signature.manifest);
        write(&path, Format::OciLayout, &signature, "localhost:8080/x:signature");
        let layout = Layout::open(&path).unwrap();
        assert_eq!((layout.roots().len(), layout.images().len()), (2, images));
    }
}

#[test]
fn files_that_are_no_images_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Layout::open(&path).unwrap_err()
    };
    assert!(matches!(open(b""), LayoutError::NotAnImage(_)));
    assert!(matches!(open(&[b'x'; 4096]), LayoutError::NotAnImage(_)));
    assert!(matches!(open(&crate::support::images::tar_of("x", b"y")), LayoutError::NotAnImage(_)));
    let compressed = open(&gzip(b"x"));
    assert!(compressed.to_string().ends_with("is compressed as a whole: gunzip it first"), "{compressed}");
    let docker = docker_archive(&image(), NAME);
    assert!(matches!(open(&docker[..docker.len() - 1536]), LayoutError::Damaged { .. }));
    assert!(matches!(open(&crate::support::images::tar_of("index.json", b"[")), LayoutError::Damaged { .. }));
    assert!(matches!(Layout::open(folder.path()), Err(LayoutError::NotAnImage(_))));
    assert!(matches!(Layout::open(&folder.path().join("missing")), Err(LayoutError::Read { .. })));
}

#[test]
fn symbolic_links_do_not_lead_out_of_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    write(&path, Format::OciLayout, &image(), NAME);
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let digest = Digest::sha256(b"secret");
    std::os::unix::fs::symlink(&secret, path.join("blobs/sha256").join(digest.hex())).unwrap();
    let error = Layout::open(&path).unwrap().open_blob(&digest).unwrap_err();
    assert!(matches!(error, LayoutError::Read { .. }));
}

#[test]
fn long_digests_fit_into_archives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let digest = Digest::of(Algorithm::Sha512, b"long");
    let descriptor = Descriptor { digest: digest.clone(), ..Descriptor::of("x", b"long") };
    let mut writer = Writer::create(Target::Path(path.clone()), Format::Archive).unwrap();
    writer.add_blob(&descriptor, b"long").unwrap();
    writer.finish(&[]).unwrap();
    assert_eq!(read(&Layout::open(&path).unwrap(), &digest), b"long");
}

#[test]
fn skopeo_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, layout) = (folder.path().join("a.tar"), folder.path().join("l"));
    write(&archive, Format::Archive, &image(), NAME);
    write(&layout, Format::OciLayout, &image(), NAME);
    for (kind, path) in [("oci-archive", &archive), ("docker-archive", &archive), ("oci", &layout)] {
        let tag = if kind == "docker-archive" { "" } else { ":latest" };
        let source = format!("{kind}:{}{tag}", path.display());
        // Copied and not only inspected: that reads every byte.
        let copy = folder.path().join(kind);
        let copy_to = format!("dir:{}", copy.display());
        let Ok(run) = output(command("skopeo").args(["--insecure-policy", "copy", &source, &copy_to])) else {
            return crate::support::skip::missing("skopeo");
        };
        assert!(run.status.success(), "{source}: {}", String::from_utf8_lossy(&run.stderr));
        if kind != "docker-archive" {
            assert_eq!(fs::read(copy.join("manifest.json")).unwrap(), image().manifest);
        }
    }
}
