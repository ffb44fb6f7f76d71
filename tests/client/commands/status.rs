//! `status --watch` goes on until it is interrupted, which is its proper end.

use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process};

use super::quinistry;
use crate::support::process::spawn;

#[test]
fn an_interrupted_watch_has_done_what_it_was_asked_for() {
    // An API server that never answers: the watch goes on without a picture.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: 'http://{}'}}}}]\n\
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{token: x}}}}]\n",
        server.local_addr().unwrap()
    );
    std::fs::write(&path, text).unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let arguments = ["status", "-w", "--kubeconfig", path.to_str().unwrap()];
        let mut child = spawn(&mut quinistry(&arguments));
        // Signals are listened to before the first connection is made.
        let _connection = server.accept().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal:?}");
    }
}
