//! An operator that runs, and how to stop it.

use std::time::Duration;

use quinistry::operator::{Operator, OperatorError, Settings};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Running {
    pub(crate) task: JoinHandle<Result<(), OperatorError>>,
    stop: oneshot::Sender<()>,
}

impl Running {
    pub(crate) fn begin(config: &kube::Config, settings: Settings) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(Operator::new(config, settings).unwrap().run(async {
            let _ = stopped.await;
        }));
        Self { task, stop }
    }

    pub(crate) async fn end(self) -> Result<(), OperatorError> {
        self.stop.send(()).expect("it runs until it is stopped");
        let ended = tokio::time::timeout(Duration::from_mins(1), self.task).await;
        ended.expect("it stops when it is asked to").unwrap()
    }
}

/// Lets an operator do what it should not.
pub(crate) async fn a_while() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}
