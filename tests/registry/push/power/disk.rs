//! A model of a file system at a power failure, by the weakest reading of POSIX: of a file there is what it
//! held when it was last flushed, and each change since in part or not at all; of a folder there are the
//! names that it held when it was last flushed, and each change of a name since, or not.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::trace::{Event, Moment};

/// Index of a file or folder in the model.
type Node = usize;

/// States since the last flush, the flushed one first. Never empty.
#[derive(Clone, Debug)]
struct History<T> {
    states: Vec<T>,
    /// Number of states that flushes have made obsolete.
    dropped: usize,
}

/// Bytes of a file, or names of a folder with what each means.
#[derive(Clone, Debug)]
enum Content {
    File(History<Vec<u8>>),
    Folder(BTreeMap<Vec<u8>, History<Option<Node>>>),
}

/// An open file.
#[derive(Clone, Debug)]
struct Open {
    node: Node,
    offset: usize,
    appends: bool,
}

/// Content of a disk: certain and possible.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    nodes: Vec<Content>,
    open: HashMap<i64, Open>,
    /// Content that unfinished flushes cover, by call.
    flushing: HashMap<usize, Vec<(Node, Mark)>>,
}

/// Number of states of a node that had been when a flush began.
#[derive(Clone, Debug)]
enum Mark {
    File(usize),
    Folder(BTreeMap<Vec<u8>, usize>),
}

impl<T> History<T> {
    fn of(flushed: T) -> Self {
        Self { states: vec![flushed], dropped: 0 }
    }

    fn now(&self) -> &T {
        self.states.last().expect("a history is never empty")
    }

    fn count(&self) -> usize {
        self.dropped + self.states.len()
    }

    /// Forgets what was before the state that a flush covers. Another flush may have gone further.
    fn flushed(&mut self, count: usize) {
        let obsolete = (count - 1).saturating_sub(self.dropped);
        self.states.drain(..obsolete);
        self.dropped += obsolete;
    }
}

impl Disk {
    /// Creates an empty folder at `root`, flushed.
    pub(super) fn new(root: &Path) -> Self {
        let nodes = vec![Content::Folder(BTreeMap::new())];
        Self { root: root.into(), nodes, open: HashMap::new(), flushing: HashMap::new() }
    }

    /// Lets another process go on with the disk.
    pub(super) fn next_process(&mut self) {
        self.open.clear();
        self.flushing.clear();
    }

    /// Applies a moment of a call; whether the disk, or what would be left of it, may have changed.
    pub(super) fn apply(&mut self, event: &Event) -> bool {
        match event.moment {
            Moment::Begin => {
                self.begin(event);
                false
            }
            Moment::End(result) => self.end(event, result),
        }
    }

    fn begin(&mut self, event: &Event) {
        match event.name.as_str() {
            // The number may be given to another file before this call returns.
            "close" => drop(self.open.remove(&event.arguments[0].number())),
            "fsync" | "fdatasync" => {
                if let Some(open) = self.open.get(&event.arguments[0].number()) {
                    let node = open.node;
                    self.flushing.insert(event.call, vec![(node, self.mark(node))]);
                }
            }
            "syncfs" | "sync" => {
                let all = (0..self.nodes.len()).map(|node| (node, self.mark(node))).collect();
                self.flushing.insert(event.call, all);
            }
            _ => {}
        }
    }

    fn end(&mut self, event: &Event, result: i64) -> bool {
        let arguments = &event.arguments;
        match event.name.as_str() {
            "close" => false,
            // A handle for lookups below a folder changes nothing.
            "open" if arguments[1].has_flag("O_PATH") => false,
            "openat" => self.opened(event, result),
            "dup" | "fcntl" | "dup2" | "dup3" => {
                let duplicates = event.name != "fcntl"
                    || arguments[1].has_flag("F_DUPFD_CLOEXEC")
                    || arguments[1].has_flag("F_DUPFD");
                if let Some(open) = self.open.get(&arguments[0].number()).cloned().filter(|_| duplicates) {
                    // A shared offset is not modelled; files that are duplicated are appended to.
                    assert!(
                        open.appends || matches!(self.nodes[open.node], Content::Folder(_)),
                        "not modelled: {event:?}"
                    );
                    self.open.insert(result, open);
                }
                false
            }
            "write" => {
                let Some(open) = self.open.get(&arguments[0].number()).cloned() else { return false };
                let written = usize::try_from(result).unwrap();
                let bytes = arguments[1].text()[..written].to_vec();
                self.change(open.node, |content| {
                    let at = if open.appends { content.len() } else { open.offset };
                    content.resize(content.len().max(at + written), 0);
                    content[at..at + written].copy_from_slice(&bytes);
                });
                self.open.get_mut(&arguments[0].number()).unwrap().offset += written;
                true
            }
            "ftruncate" => {
                let Some(open) = self.open.get(&arguments[0].number()).cloned() else { return false };
                let length = usize::try_from(arguments[1].number()).unwrap();
                self.change(open.node, |content| content.resize(length, 0));
                true
            }
            "fsync" | "fdatasync" | "syncfs" | "sync" => {
                let Some(marks) = self.flushing.remove(&event.call) else { return false };
                for (node, mark) in marks {
                    self.flushed(node, mark);
                }
                true
            }
            "rename" => self.renamed(arguments[0].text(), arguments[1].text()),
            "mkdir" => {
                let Some((folder, name)) = self.place(None, arguments[0].text()) else { return false };
                let made = self.add(Content::Folder(BTreeMap::new()));
                self.name(folder, &name, Some(made));
                true
            }
            "unlink" | "rmdir" => self.removed(None, arguments[0].text()),
            "unlinkat" => {
                let folder = self.base(&arguments[0]);
                self.removed(folder, arguments[1].text())
            }
            // Vectors go to sockets alone, and no file's offset is moved.
            "lseek" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "fallocate" | "sync_file_range" => {
                assert!(!self.open.contains_key(&arguments[0].number()), "not modelled: {event:?}");
                false
            }
            _ => panic!("not modelled: {event:?}"),
        }
    }

    fn opened(&mut self, event: &Event, result: i64) -> bool {
        let arguments = &event.arguments;
        let base = self.base(&arguments[0]);
        let path = arguments[1].text();
        let flags = &arguments[2];
        let found = self.find(base, path);
        let node = if let Some(node) = found {
            node
        } else {
            let Some((folder, name)) = self.place(base, path) else { return false };
            assert!(flags.has_flag("O_CREAT"), "opened, and never made: {event:?}");
            let made = self.add(Content::File(History::of(Vec::new())));
            self.name(folder, &name, Some(made));
            made
        };
        let truncates = flags.has_flag("O_TRUNC") && found.is_some();
        if truncates {
            self.change(node, Vec::clear);
        }
        self.open.insert(result, Open { node, offset: 0, appends: flags.has_flag("O_APPEND") });
        truncates || found.is_none()
    }

    /// Returns the folder that a descriptor argument means; `None` means that paths are absolute.
    fn base(&self, argument: &super::trace::Argument) -> Option<Node> {
        if argument.has_flag("AT_FDCWD") {
            None
        } else {
            self.open.get(&argument.number()).map(|open| open.node)
        }
    }

    fn renamed(&mut self, from: &[u8], to: &[u8]) -> bool {
        let (Some((old, old_name)), Some((new, new_name))) = (self.place(None, from), self.place(None, to))
        else {
            return false;
        };
        let node = self.meaning(old, &old_name);
        assert!(node.is_some(), "moved, and never made: {}", String::from_utf8_lossy(from));
        self.name(new, &new_name, node);
        self.name(old, &old_name, None);
        true
    }

    fn removed(&mut self, base: Option<Node>, path: &[u8]) -> bool {
        let Some((folder, name)) = self.place(base, path) else { return false };
        self.name(folder, &name, None);
        true
    }

    fn add(&mut self, content: Content) -> Node {
        self.nodes.push(content);
        self.nodes.len() - 1
    }

    fn change(&mut self, node: Node, change: impl FnOnce(&mut Vec<u8>)) {
        let Content::File(history) = &mut self.nodes[node] else { panic!("a folder is written to") };
        let mut content = history.now().clone();
        change(&mut content);
        history.states.push(content);
    }

    fn name(&mut self, folder: Node, name: &[u8], node: Option<Node>) {
        let Content::Folder(names) = &mut self.nodes[folder] else { panic!("a file has no names") };
        names.entry(name.into()).or_insert_with(|| History::of(None)).states.push(node);
    }

    fn meaning(&self, folder: Node, name: &[u8]) -> Option<Node> {
        let Content::Folder(names) = &self.nodes[folder] else { return None };
        *names.get(name)?.now()
    }

    /// Returns the folder of a path and its name there; `None` for a path that does not lead below the root.
    fn place(&self, base: Option<Node>, path: &[u8]) -> Option<(Node, Vec<u8>)> {
        let path = Path::new(OsStr::from_bytes(path));
        let name = path.file_name()?.as_bytes().to_vec();
        let folder = self.find(base, path.parent()?.as_os_str().as_bytes())?;
        matches!(self.nodes[folder], Content::Folder(_)).then_some((folder, name))
    }

    fn find(&self, base: Option<Node>, path: &[u8]) -> Option<Node> {
        let path = Path::new(OsStr::from_bytes(path));
        let (start, path) =
            if path.is_absolute() { (0, path.strip_prefix(&self.root).ok()?) } else { (base?, path) };
        path.iter().try_fold(start, |folder, name| self.meaning(folder, name.as_bytes()))
    }

    fn mark(&self, node: Node) -> Mark {
        match &self.nodes[node] {
            Content::File(history) => Mark::File(history.count()),
            Content::Folder(names) => {
                Mark::Folder(names.iter().map(|(name, history)| (name.clone(), history.count())).collect())
            }
        }
    }

    fn flushed(&mut self, node: Node, mark: Mark) {
        match (&mut self.nodes[node], mark) {
            (Content::File(history), Mark::File(count)) => history.flushed(count),
            (Content::Folder(names), Mark::Folder(counts)) => {
                for (name, count) in counts {
                    names.get_mut(&name).expect("names keep their history").flushed(count);
                }
            }
            _ => panic!("a file became a folder"),
        }
    }

    /// Writes what would be left to a folder. `choose(n)` picks one of `n` states, of which 0 is the last
    /// flushed one.
    pub(super) fn rebuild(&self, to: &Path, choose: &mut dyn FnMut(usize) -> usize) {
        self.rebuild_folder(0, to, choose);
    }

    fn rebuild_folder(&self, node: Node, to: &Path, choose: &mut dyn FnMut(usize) -> usize) {
        let Content::Folder(names) = &self.nodes[node] else { panic!("a file has no names") };
        for (name, history) in names {
            let Some(node) = history.states[choose(history.states.len())] else { continue };
            let path = to.join(OsStr::from_bytes(name));
            match &self.nodes[node] {
                Content::Folder(_) => {
                    // A folder that was moved may be found under both names.
                    fs::create_dir(&path).unwrap();
                    self.rebuild_folder(node, &path, choose);
                }
                Content::File(history) => {
                    let chosen = choose(history.states.len());
                    let mut bytes = history.states[chosen].clone();
                    if chosen > 0 {
                        // Written bytes that were not flushed may be there in part, or as zeroes.
                        match choose(3) {
                            1 => bytes.truncate(bytes.len() / 2),
                            2 => bytes.fill(0),
                            _ => {}
                        }
                    }
                    fs::write(&path, bytes).unwrap();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::trace::parse;
    use super::*;

    /// Returns the names below the root after these calls, by the weakest reading.
    fn left(calls: &[&str]) -> Vec<String> {
        let mut trace = String::new();
        for call in calls {
            trace += "1 1.0 ";
            // Texts stand in hexadecimal between quotes.
            for (number, part) in call.split('"').enumerate() {
                if number > 0 {
                    trace.push('"');
                }
                if number % 2 == 0 {
                    trace += part;
                } else {
                    part.bytes().for_each(|byte| write!(trace, "\\x{byte:02x}").unwrap());
                }
            }
            trace.push('\n');
        }
        let mut disk = Disk::new(Path::new("/r"));
        for event in parse(&trace) {
            disk.apply(&event);
        }
        let folder = tempfile::tempdir().unwrap();
        disk.rebuild(folder.path(), &mut |_| 0);
        let mut found: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                format!("{}={text}", entry.file_name().display())
            })
            .collect();
        found.sort();
        found
    }

    const MADE: &str = "openat(AT_FDCWD, \"/r/a\", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3";
    const WRITTEN: &str = "write(3, \"x\", 1) = 1";
    const OPENED: &str = "openat(AT_FDCWD, \"/r\", O_RDONLY) = 4";

    #[test]
    fn a_file_whose_folder_was_not_flushed_is_not_there() {
        assert_eq!(left(&[MADE, WRITTEN, "fsync(3) = 0"]), [""; 0]);
    }

    #[test]
    fn a_name_that_was_flushed_before_its_bytes_leads_to_nothing() {
        assert_eq!(left(&[MADE, WRITTEN, OPENED, "fsync(4) = 0"]), ["a="]);
    }

    #[test]
    fn what_was_flushed_is_there_whatever_came_after() {
        let calls = [MADE, WRITTEN, "fsync(3) = 0", OPENED, "fsync(4) = 0", WRITTEN, "unlink(\"/r/a\") = 0"];
        assert_eq!(left(&calls), ["a=x"]);
    }

    #[test]
    fn a_rename_holds_once_its_folder_is_flushed() {
        let rename = "rename(\"/r/a\", \"/r/b\") = 0";
        let before = [MADE, WRITTEN, "fsync(3) = 0", OPENED, "fsync(4) = 0", rename];
        assert_eq!(left(&before), ["a=x"]);
        assert_eq!(left(&[&before[..], &["fsync(4) = 0"]].concat()), ["b=x"]);
    }
}
