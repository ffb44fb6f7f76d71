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
use super::secure::{self, AUTHORIZATION, PasswordFile};
use super::support::connection::Connection;
use super::support::parallel;
use super::support::process::Process;

/// Wrong logins per second.
const LOGINS_PER_SECOND: u32 = 1_000;

/// Connections of the attacker. A registry that computes for each login answers fewer than it is asked.
const ATTACKERS: u32 = 16;

/// Address of the attacker, another one than that of the pulls.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Clients that pull at once.
const CLIENTS: usize = 4;

/// Time between two logins of one connection of the attacker.
const INTERVAL: Duration = Duration::from_millis(1000 * ATTACKERS as u64 / LOGINS_PER_SECOND as u64);

pub(crate) fn measure(comparison: &mut Comparison, data: &PeerData, peers: &[Peer]) {
    let part = |when: &str| format!("pull beside {LOGINS_PER_SECOND} wrong logins a second{when}, as a part");
    let works = vec![
        Work::rate(format!("pull of an image with a password, {CLIENTS} clients"), "/s"),
        Work::rate(part(""), "×").at_least(0.9),
        Work::rate(part(", when they begin"), "×"),
        Work::rate("wrong logins answered beside pulls", "/s"),
    ];
    if !comparison.selects(&works.iter().map(|work| work.name.as_str()).collect::<Vec<_>>()) {
        return;
    }
    let peers: Vec<Peer> = secure::WITH_PASSWORDS.into_iter().filter(|peer| peers.contains(peer)).collect();
    let options = comparison.options.clone();
    let file = PasswordFile::write(&options.dir);
    let window = options.window() * 5;
    comparison.rows_of_one_measurement(works, options.long_rounds(), &peers, |peer| {
        // A new process has not seen the attacker.
        let server = peer.start_protected(&options.quinistry, &data.folder(peer), file.protection());
        let pulls = || pulls_per_second(&server, data, window);
        pulls();
        let before = pulls();
        let ((begin, later), logins) = Attack::default().run(server.address(), || {
            let begin = pulls();
            // Registries that throttle still compute the attempts that were free.
            let _between = pulls();
            (begin, f64::midpoint(pulls(), pulls()))
        });
        // Windows on both sides, so that a machine that becomes faster or slower favours neither.
        let alone = f64::midpoint(before, pulls());
        vec![alone, later / alone, begin / alone, logins]
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

/// Wrong logins at a rate.
#[derive(Debug, Default)]
struct Attack {
    is_over: AtomicBool,
    answered: AtomicUsize,
}

impl Attack {
    /// Runs `work` during the attack. Returns the result, and the number of logins that were answered per second.
    fn run<T>(&self, registry: SocketAddr, work: impl FnOnce() -> T) -> (T, f64) {
        let begin = Instant::now();
        let done = thread::scope(|scope| {
            for number in 0..ATTACKERS {
                let first = begin + INTERVAL * number / ATTACKERS;
                scope.spawn(move || self.log_in_again_and_again(registry, number, first));
            }
            let done = work();
            self.is_over.store(true, Ordering::Relaxed);
            done
        });
        (done, self.answered.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
    }

    /// Logs in with one wrong password after another, of a known and an unknown user in turn.
    fn log_in_again_and_again(&self, registry: SocketAddr, number: u32, first: Instant) {
        let mut connection = Connection::new(connect_from(ATTACKER, registry));
        let mut next = first;
        for attempt in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // An attacker that is behind does not catch up: the rate is never exceeded.
            next = next.max(Instant::now()) + INTERVAL;
            let user = if attempt % 2 == 0 { "reader" } else { "stranger" };
            let password = STANDARD.encode(format!("{user}:wrong-{number}-{attempt}"));
            let field = format!("Authorization: Basic {password}\r\n");
            let answer = connection.ask("GET", "/v2/", &field, &[], |_| ());
            assert!(matches!(answer.status, 401 | 429), "{answer:?}");
            self.answered.fetch_add(1, Ordering::Relaxed);
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
