//! The registry inside the test's own process: for limits that the program's command line does not offer. The
//! image is that of the test's executable, which is as good as any.

use std::net::Ipv4Addr;
use std::sync::{LazyLock, mpsc};
use std::thread::{self, JoinHandle};

use quinistry::quine::{Executable, LayerForm, Quine};
use quinistry::registry::{Limits, State, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::http::Peer;

/// The image of this test's executable. Computed once.
pub static QUINE: LazyLock<Quine> =
    LazyLock::new(|| Quine::new(&Executable::current().unwrap(), LayerForm::Tar).unwrap());

/// A registry on a thread of its own.
#[derive(Debug)]
pub struct InProcess {
    pub peer: Peer,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    pub fn start(limits: Limits) -> Self {
        Self::serving(State::new(&QUINE), limits)
    }

    /// One that serves something else.
    pub fn serving(state: State, limits: Limits) -> Self {
        let (bound, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, state, limits, async { drop(stopped.await) }).await;
            });
        });
        Self { peer: Peer(address.recv().unwrap()), stop: Some(stop), thread: Some(thread) }
    }

    /// Asks it to stop, without waiting.
    pub fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits until it has stopped.
    pub fn join(mut self) {
        self.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}
