//! Pulls beside 1,000 wrong logins a second from another address: bcrypt must not take the processors of clients
//! whose password is right.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::comparison::Comparison;
use super::data::{IMAGE, PeerData};
use super::peers::Peer;
use super::row::Work;
use super::secure::{AUTHORIZATION, PasswordFile};
use super::support::connection::Connection;
use super::support::parallel;
use super::support::process::Process;

/// Wrong logins per second.
const LOGINS_PER_SECOND: u32 = 1_000;

/// Connections of the load. A registry that computes for each login answers fewer than it is asked.
const LOAD_CONNECTIONS: u32 = 16;

/// Address of the load, another one than that of the pulls.
const LOAD_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Clients that pull at once.
const CLIENTS: usize = 4;

/// Time between two logins of one connection of the attacker.
const INTERVAL: Duration = Duration::from_millis(1000 * LOAD_CONNECTIONS as u64 / LOGINS_PER_SECOND as u64);

/// Distribution stands for its two lines, which both compute for each request and take minutes.
const PEERS: [Peer; 2] = [Peer::Quinistry, Peer::Distribution];

/// Windows of each kind in a round.
const TURNS: u32 = 6;

pub(crate) fn measure(comparison: &mut Comparison, data: &PeerData, peers: &[Peer]) {
    let beside = format!("{LOGINS_PER_SECOND} wrong logins a second");
    let works = vec![
        Work::rate(format!("pull of an image with a password, {CLIENTS} clients"), "/s"),
        Work::rate(format!("pull beside {beside}, as a part of that without"), "×").at_least(0.9),
        Work::rate("pull beside as many right logins, as a part of that without", "×"),
        Work::rate(format!("pull when {beside} begin, as a part of that without"), "×"),
        Work::rate("wrong logins answered when they begin", "/s"),
    ];
    if !comparison.selects(&works.iter().map(|work| work.name.as_str()).collect::<Vec<_>>()) {
        return;
    }
    let peers: Vec<Peer> = PEERS.into_iter().filter(|peer| peers.contains(peer)).collect();
    let options = comparison.options.clone();
    let file = PasswordFile::write(&options.dir);
    let (short, long) = (options.window(), options.window() * 5);
    let right = || Load { is_wrong: false, ..Load::default() };
    let wrong = || Load { is_wrong: true, ..Load::default() };
    comparison.rows_of_one_measurement(works, options.rounds(), &peers, |peer| {
        // A new process has not seen the attacker.
        let server = peer.start_protected(&options.quinistry, &data.folder(peer), file.protection());
        let pulls = |window| pulls_per_second(&server, data, window);
        pulls(short);
        let before = pulls(long);
        let attack = wrong();
        let (at_begin, answered) = attack.run(server.address(), || {
            let at_begin = pulls(long);
            attack.wait_for_throttle();
            at_begin
        });
        let (mut alone, mut beside_right, mut beside_wrong) = (0.0, 0.0, 0.0);
        // Short windows in turn, so that what else the machine does affects all alike.
        for _ in 0..TURNS {
            alone += pulls(short);
            beside_right += right().run(server.address(), || pulls(short)).0;
            beside_wrong += wrong().run(server.address(), || pulls(short)).0;
        }
        let number = f64::from(TURNS);
        vec![alone / number, beside_wrong / alone, beside_right / alone, at_begin / before, answered]
    });
}

/// Pulls again and again: a manifest by tag, and its layers of 1 KB and 1 MB, each with the password.
fn pulls_per_second(server: &Process, data: &PeerData, window: Duration) -> f64 {
    let fields = format!("{AUTHORIZATION}\r\n");
    let targets: Vec<String> = std::iter::once(format!("/v2/{IMAGE}/manifests/latest"))
        .chain(data.layers[..2].iter().map(|layer| format!("/v2/{IMAGE}/blobs/{}", layer.digest)))
        .collect();
    let pull = |connection: &mut Connection, _| {
        for target in &targets {
            assert_eq!(connection.ask("GET", target, &fields, &[], |_| ()).status, 200, "GET {target}");
        }
        1
    };
    parallel::rate(CLIENTS, window, || server.connect(), pull)
}

/// Logins at a rate, from another address than that of the pulls.
#[derive(Debug, Default)]
struct Load {
    is_wrong: bool,
    is_over: AtomicBool,
    answered: AtomicUsize,
    /// Answers 401, for which a registry had to compute.
    checked: AtomicUsize,
}

impl Load {
    /// Runs `work` during the load. Returns the result, and the number of logins that were answered per second.
    fn run<T>(&self, registry: SocketAddr, work: impl FnOnce() -> T) -> (T, f64) {
        let begin = Instant::now();
        let done = thread::scope(|scope| {
            for number in 0..LOAD_CONNECTIONS {
                let first = begin + INTERVAL * number / LOAD_CONNECTIONS;
                scope.spawn(move || self.log_in_again_and_again(registry, number, first));
            }
            let done = work();
            self.is_over.store(true, Ordering::Relaxed);
            done
        });
        (done, self.answered.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
    }

    /// Waits until a registry that throttles has computed the attempts that were free. Does not wait long for one that
    /// computes for every attempt.
    fn wait_for_throttle(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let [checked, answered] = [&self.checked, &self.answered].map(|of| of.load(Ordering::Relaxed));
            thread::sleep(Duration::from_secs(1));
            let new = self.checked.load(Ordering::Relaxed) - checked;
            // One attempt each three seconds is computed from then on.
            if new <= 1 && self.answered.load(Ordering::Relaxed) > answered + 100 {
                return;
            }
            // No registry lets more pass than some dozen.
            if checked > 100 {
                return;
            }
        }
    }

    /// Logs in at each interval: with the right password, or with one wrong password after another, of a known and
    /// an unknown user in turn.
    fn log_in_again_and_again(&self, registry: SocketAddr, number: u32, first: Instant) {
        let mut connection = Connection::new(connect_from(LOAD_ADDRESS, registry));
        let mut next = first;
        for attempt in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // A client that is behind does not catch up: the rate is never exceeded.
            next = next.max(Instant::now()) + INTERVAL;
            let field = if self.is_wrong {
                let user = if attempt % 2 == 0 { "reader" } else { "stranger" };
                let password = STANDARD.encode(format!("{user}:wrong-{number}-{attempt}"));
                format!("Authorization: Basic {password}\r\n")
            } else {
                format!("{AUTHORIZATION}\r\n")
            };
            let answer = connection.ask("GET", "/v2/", &field, &[], |_| ());
            assert_eq!(matches!(answer.status, 401 | 429), self.is_wrong, "{answer:?}");
            self.answered.fetch_add(1, Ordering::Relaxed);
            self.checked.fetch_add(usize::from(answer.status == 401), Ordering::Relaxed);
        }
    }
}

/// Connects from an address of this machine.
fn connect_from(source: Ipv4Addr, target: SocketAddr) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &SocketAddrV4::new(source, 0)).unwrap();
    connect(&stream, &target).unwrap();
    TcpStream::from(stream)
}
