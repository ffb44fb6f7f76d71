//! A stub of an object store over HTTP, in memory: the XML interfaces of S3 and Google Cloud Storage.
//!
//! Faults come by probability or for chosen requests, answers come after a delay, and requests are counted:
//! what real stores do rarely, and a test must be able to ask for. Credentials are looked at, signatures are
//! not: versitygw, which the tests run too, does check them.

mod answer;
mod delete;
mod interruption;
mod listing;
mod objects;
mod operation;
mod request;
mod serve;
mod settings;
mod signature;
mod timeline;
mod xml;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use quinistry_bucket::testing::{FaultPlan, Mem, MemOptions, RequestLog, StoreClock, Versions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::interruption::Interruptions;
pub use self::interruption::{Interruption, Moment};
pub use self::settings::BucketSettings;
use self::timeline::Timeline;
pub use self::timeline::{Span, depth};

/// Name of the only bucket.
pub const BUCKET: &str = "registry";
/// Access key that the stub accepts.
pub const ACCESS_KEY: &str = "AKIDSTUB";
/// Secret key of the tests.
pub const SECRET_KEY: &str = "stub-secret-key";
/// Token that the stub's metadata server gives to clients of Google Cloud Storage.
pub const TOKEN: &str = "stub-token";

/// Time between two looks at the requests of a stub.
const QUIET_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Number of looks without a new request after which a stub is quiet: what follows a request follows at once.
const QUIET_POLLS: usize = 10;

/// Interface of a stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    S3,
    /// Google Cloud Storage: generations instead of `ETag`s decide.
    Gcs,
}

/// Properties of a stub.
#[derive(Clone, Debug)]
pub struct StubOptions {
    pub shape: Shape,
    pub mem: MemOptions,
    pub clock: StoreClock,
    pub settings: BucketSettings,
}

impl StubOptions {
    /// Returns the properties of a store that keeps all guarantees.
    pub fn new(shape: Shape) -> Self {
        let versions = match shape {
            Shape::S3 => Versions::Etags,
            Shape::Gcs => Versions::Generations,
        };
        let mem = MemOptions { versions, ..MemOptions::default() };
        Self { shape, mem, clock: StoreClock::system(), settings: BucketSettings::default() }
    }
}

/// A running stub on a free port of loopback; ended when dropped.
#[derive(Debug)]
pub struct StubStore {
    pub address: SocketAddr,
    store: Arc<Store>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// State that all connections share.
#[derive(Debug)]
struct Store {
    mem: Mem,
    shape: Shape,
    settings: BucketSettings,
    plan: FaultPlan,
    log: RequestLog,
    timeline: Timeline,
    interruptions: Interruptions,
    /// Time before each answer, in microseconds.
    delay: AtomicU64,
    /// Number of the credentials that are valid, if a client has those that the stub issues.
    valid: AtomicUsize,
    /// Number of times that credentials were issued.
    issued: AtomicUsize,
}

impl StubStore {
    /// Starts a stub that keeps all guarantees.
    pub fn start(shape: Shape) -> Self {
        Self::with(StubOptions::new(shape))
    }

    pub fn with(options: StubOptions) -> Self {
        let StubOptions { shape, mem, clock, settings } = options;
        let store = Arc::new(Store {
            mem: Mem::new(mem, clock),
            shape,
            settings,
            plan: FaultPlan::default(),
            log: RequestLog::default(),
            timeline: Timeline::default(),
            interruptions: Interruptions::default(),
            delay: AtomicU64::new(0),
            valid: AtomicUsize::new(1),
            issued: AtomicUsize::new(0),
        });
        let (bound, address) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let shared = store.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve::serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), store, stop: Some(stop), thread: Some(thread) }
    }

    pub fn shape(&self) -> Shape {
        self.store.shape
    }

    /// Returns the URL without a bucket.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the section of a configuration file that names the bucket of S3.
    pub fn section(&self, root: &str) -> String {
        assert_eq!(self.store.shape, Shape::S3, "no key of storage.gcs names a server");
        format!(
            "s3: {{accesskey: {ACCESS_KEY}, secretkey: {SECRET_KEY}, region: us-east-1, bucket: {BUCKET}, \
             regionendpoint: '{}', forcepathstyle: true, secure: false, rootdirectory: '{root}'}}",
            self.endpoint()
        )
    }

    /// Returns the URL that names the bucket of Google Cloud Storage.
    pub fn google_url(&self, root: &str) -> String {
        format!("gs://{BUCKET}/{root}?endpoint={}", self.endpoint())
    }

    /// Returns the contents of the bucket.
    pub fn mem(&self) -> &Mem {
        &self.store.mem
    }

    /// Returns the faults.
    pub fn plan(&self) -> &FaultPlan {
        &self.store.plan
    }

    /// Returns the requests that came.
    pub fn log(&self) -> &RequestLog {
        &self.store.log
    }

    /// Returns the URL of the service that issues temporary credentials, as a container of EKS has one.
    pub fn credentials_url(&self) -> String {
        format!("{}/credentials", self.endpoint())
    }

    /// Ends the lifetime of all credentials that were issued, before the time that was announced.
    pub fn expire_credentials(&self) {
        self.store.valid.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of times that credentials were issued.
    pub fn issued_credentials(&self) -> usize {
        self.store.issued.load(Ordering::Relaxed)
    }

    /// Returns the requests since the last call, with their order.
    pub fn take_spans(&self) -> Vec<Span> {
        self.store.timeline.take()
    }

    /// Waits until all requests are answered and none has come for some polls: what answers to clients have left to do
    /// is done.
    pub fn wait_until_quiet(&self) {
        self.wait_for_quiet(QUIET_POLLS);
    }

    /// Waits until what clients that have ended had sent is carried out.
    pub fn wait_until_done(&self) {
        self.wait_for_quiet(2);
    }

    fn wait_for_quiet(&self, wanted: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let (mut since, mut polls) = (None, 0);
        while polls < wanted {
            assert!(Instant::now() < deadline, "requests come all the time");
            std::thread::sleep(QUIET_POLL_INTERVAL);
            let now = self.store.timeline.quiet_since();
            polls = if now.is_some() && now == since { polls + 1 } else { 0 };
            since = now;
        }
    }

    /// Sets an act in the midst of one request to come, in the place of an earlier one.
    pub fn interrupt(&self, interruption: Interruption) {
        self.store.interruptions.set(interruption);
    }

    /// Ends the wait for the interruption, and returns true if it has happened.
    pub fn end_interruption(&self) -> bool {
        self.store.interruptions.take()
    }

    /// Sets the time before each answer.
    pub fn set_delay(&self, delay: Duration) {
        self.store.delay.store(u64::try_from(delay.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl Drop for StubStore {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
