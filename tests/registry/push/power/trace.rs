//! Lines of `strace -f -ttt -xx`, parsed: the system calls of a process, in the order in which they began and
//! ended.

use std::collections::HashMap;

/// Calls that change a file system or tell which file a descriptor means. `strace` is asked for these.
pub(super) const CALLS: &str = "openat,open,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,pwritev2,\
    lseek,ftruncate,truncate,fallocate,copy_file_range,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,\
    link,linkat,symlink,symlinkat,fsync,fdatasync,sync,syncfs,sync_file_range";

/// The two moments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Begin,
    /// Returned, with what: a call that failed is left out.
    End(i64),
}

/// A moment of a system call.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Seconds since the epoch.
    pub(super) at: f64,
    /// Number of the call: its two moments share it.
    pub(super) call: usize,
    pub(super) moment: Moment,
    pub(super) name: String,
    pub(super) arguments: Vec<Argument>,
}

/// An argument of a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    Text(Vec<u8>),
    /// A number, a flag, a structure: as it was printed.
    Word(String),
}

impl Argument {
    pub(super) fn number(&self) -> i64 {
        match self {
            Self::Word(word) => word.parse().unwrap_or_else(|_| panic!("{word:?} is not a number")),
            Self::Text(text) => panic!("{text:?} is not a number"),
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Word(word) => panic!("{word:?} is not a text"),
        }
    }

    pub(super) fn has_flag(&self, flag: &str) -> bool {
        matches!(self, Self::Word(word) if word.split('|').any(|one| one == flag))
    }
}

/// Parses a whole trace. Calls that failed change nothing and are left out, as are their beginnings.
pub(super) fn parse(trace: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    // Calls that each thread has begun and not ended.
    let mut open: HashMap<&str, (usize, String)> = HashMap::new();
    let mut failed = Vec::new();
    let mut calls = 0;
    for line in trace.lines() {
        // Numbers of threads are padded with spaces.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((at, rest)) = rest.trim_start().split_once(' ') else { continue };
        let at: f64 = at.parse().unwrap_or_else(|_| panic!("no time: {line}"));
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let (call, text) = if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            open.insert(thread, (calls, begun.trim_end().to_owned()));
            (calls, begun.trim_end().to_owned() + ") = ?")
        } else if rest.starts_with("<... ") {
            let Some((call, begun)) = open.remove(thread) else { panic!("never begun: {line}") };
            let (_, end) = rest.split_once(" resumed>").unwrap_or_else(|| panic!("not resumed: {line}"));
            (call, begun + end)
        } else {
            (calls, rest.to_owned())
        };
        let is_new = call == calls;
        calls = calls.max(call + 1);
        let (name, arguments, result) = parse_call(&text).unwrap_or_else(|| panic!("not understood: {line}"));
        let event = |moment| Event { at, call, moment, name: name.clone(), arguments: arguments.clone() };
        if is_new {
            events.push(event(Moment::Begin));
        }
        match result {
            // It has not ended yet, or the process ended first.
            None => {}
            Some(result) if result < 0 => failed.push(call),
            Some(result) => events.push(event(Moment::End(result))),
        }
    }
    events.retain(|event| !failed.contains(&event.call));
    events
}

/// Splits `name(arguments) = result`.
fn parse_call(text: &str) -> Option<(String, Vec<Argument>, Option<i64>)> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") ").or_else(|| rest.rsplit_once(')'))?;
    let result = result.trim_start().strip_prefix("= ")?;
    let result = result.split_whitespace().next()?;
    let arguments = split(arguments).into_iter().map(argument).collect::<Option<_>>()?;
    Some((name.to_owned(), arguments, result.parse().ok()))
}

/// Splits at commas that no bracket encloses. Texts are hexadecimal, so they hold neither.
fn split(arguments: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (place, byte) in arguments.bytes().enumerate() {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth -= 1,
            b',' if depth == 0 => {
                found.push(arguments[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    let last = arguments[start..].trim();
    if !last.is_empty() {
        found.push(last);
    }
    found
}

fn argument(text: &str) -> Option<Argument> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(Argument::Word(text.to_owned())) };
    // A text that was cut ends in dots, and would be taken for the whole.
    let hex = quoted.strip_suffix('"')?;
    hex.split("\\x")
        .skip(1)
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect::<Option<_>>()
        .map(Argument::Text)
}

#[test]
fn a_trace_is_told_by_what_began_and_what_ended() {
    let trace = "\
        7  1.5 openat(AT_FDCWD, \"\\x2f\\x61\", O_RDWR|O_CREAT, 0666) = 3\n\
        7 1.6 fsync(3 <unfinished ...>\n\
        8 1.7 write(4, \"\\x62\", 1) = 1\n\
        8 1.8 rename(\"\\x61\", \"\\x62\") = -1 ENOENT (No such file or directory)\n\
        7 1.9 <... fsync resumed>) = 0\n\
        7 2.0 +++ exited with 0 +++\n";
    let events = parse(trace);
    let seen: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.moment)).collect();
    let (begin, end) = (Moment::Begin, Moment::End);
    let expected = [
        ("openat", begin),
        ("openat", end(3)),
        ("fsync", begin),
        ("write", begin),
        ("write", end(1)),
        ("fsync", end(0)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(events[0].arguments[1].text(), b"/a");
    assert!(events[0].arguments[2].has_flag("O_CREAT"));
    assert_eq!(events[2].call, events[5].call);
}
