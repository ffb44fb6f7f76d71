//! Name of the process that listens on a port, as far as /proc shows it.

use std::fs;
use std::path::Path;

/// State of a listening socket in /proc/net/tcp (`TCP_LISTEN` of Linux, `include/net/tcp_states.h`).
const LISTEN_STATE: &str = "0A";

/// Names the process that listens on a TCP port: `NAME (pid PID)`. `None` if there is none, or if this
/// process may not see it, as it is another user's or another container's.
pub(super) fn of(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let processes = fs::read_dir("/proc").ok().filter(|_| !inodes.is_empty())?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid = process.file_name().into_string().ok().filter(|name| name.parse::<u32>().is_ok())?;
        if !holds(&process.path().join("fd"), &inodes) {
            return None;
        }
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{} (pid {pid})", super::sanitize(name.trim_end())))
    })
}

/// Finds the inodes of sockets that listen on a port in a table of the kernel's.
fn listening(table: &str, port: u16) -> Vec<String> {
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && fields.get(3) == Some(&LISTEN_STATE);
        is_it.then(|| fields.get(9).map(ToString::to_string)).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds(folder: &Path, inodes: &[String]) -> bool {
    let is_one = |link: &Path| {
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|one| one == inode))
    };
    let Ok(files) = fs::read_dir(folder) else { return false };
    files.filter_map(Result::ok).any(|file| fs::read_link(file.path()).is_ok_and(|link| is_one(&link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4242 1 0 100 0 0 10 0\n\
             1: 0100007F:1388 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 4343 1 0 100 0 0 10 0\n";
        assert_eq!(listening(table, 5000), ["4242"]);
        assert_eq!(listening(table, 5001), [""; 0]);
    }

    #[test]
    fn this_process_is_named_as_the_holder_of_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of(listener.local_addr().unwrap().port()).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
    }
}
