//! Pushes, mounts, pulls and deletes, while the registry collects what nothing needs, retention removes tags, and a
//! process is killed every 15 seconds: nothing that was acknowledged is lost, each pull is whole, and no garbage
//! stays. Three replicas on a bucket, and one process on a folder.
//!
//! A command of its own: `cargo test --test buckets soak -- --ignored --nocapture`.
//! `QUINISTRY_SOAK_SECONDS` sets the time of the load (default: 60); what follows takes two minutes at most.

mod debris;
mod ledger;
mod stopped_leader;
mod worker;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quinistry::bucket::PendingUpload;

use self::debris::{Cycle, cycles, measure, uploads};
use self::ledger::{Counts, Ledger, State};
use self::worker::{Scene, Worker};
use crate::attempt::Replicas;
use crate::client::{Client, Way};
use crate::pending::pending_uploads;
use crate::stores::{Replica, ReplicaSettings};
use crate::support::images::{Image, Packing};
use crate::support::stub_store::{Shape, StubStore};
use crate::support::versitygw::{Versitygw, section};

/// Number of clients that push, mount, pull and delete.
const WORKERS: usize = 16;
/// Time between two kills.
const KILL_INTERVAL: Duration = Duration::from_secs(15);
/// Repository whose tags retention removes.
const PASSING: &str = "soak/passing";
/// Repositories that the workers share.
const REPOSITORIES: [&str; 4] = ["soak/a", "soak/b", "soak/c", PASSING];
/// Time of grace and interval of collection, as [`SECTIONS`] says.
const GRACE: Duration = Duration::from_secs(20);
/// Time for which a replica's view counts, as [`VARIABLES`] says.
const VIEW_LIFETIME: Duration = Duration::from_secs(2);

const SECTIONS: &str = "quinistry: {gc: {writers: ours, interval: 20s, grace: 20s, rate: 1000}, retention: {dryrun: false, \
                        maxdelete: '100%', policies: [{repositories: ['soak/passing'], keeptags: [{patterns: ['pr-.*'], \
                        pushedwithin: 5s}, {}], untagged: {keepfor: 5s}}]}}\n";
/// The least grace is the age of young content as well.
const VARIABLES: [(&str, &str); 2] = [("QUINISTRY_GC_MIN_GRACE", "5"), ("QUINISTRY_GC_VIEW_LIFETIME", "2")];

/// Number of cycles after the load in which 99 % of the garbage goes.
const SOON: usize = 3;
/// Number of cycles after the load in which all garbage goes.
const LATE: usize = 5;
/// Time in which these cycles must have come, and the uploads that were left behind must have ended: another leader
/// waits for the term of one that was killed.
const REST_TIMEOUT: Duration = Duration::from_mins(4);

/// Returns [`REST_TIMEOUT`], or more after a long load, whose garbage takes longer to remove than a cycle's interval.
fn rest_timeout() -> Duration {
    REST_TIMEOUT.max(duration() * 2)
}

/// Length of a part, as is the default.
const PART_BYTES: usize = 10 << 20;

/// Age at which an upload is given up, as [`start`] says.
const UPLOAD_AGE: Duration = Duration::from_secs(30);

/// Registry of a soak, and its storage.
struct Setup<'a> {
    section: &'a str,
    /// Folder with the files of the storage.
    root: &'a Path,
    /// Bucket, unless the storage is a folder.
    store: Option<&'a Versitygw>,
    replicas: usize,
}

impl Setup<'_> {
    /// Returns the uploads in parts that the store lists and that belong to sessions. Those of single requests end after
    /// a day.
    fn sessions_in_parts(&self) -> Vec<PendingUpload> {
        let mut pending = self.store.map(pending_uploads).unwrap_or_default();
        pending.retain(|upload| upload.key.contains("/_uploads/"));
        pending
    }
}

/// Events of a soak beside those of the ledger.
#[derive(Debug, Default)]
struct Events {
    kills: usize,
    cycles: BTreeMap<u64, Cycle>,
    /// Greatest number of files of uploads that were seen at once.
    uploads: usize,
    /// Greatest number of uploads in parts that the store has listed at once.
    uploads_in_parts: usize,
}

fn duration() -> Duration {
    let seconds = std::env::var("QUINISTRY_SOAK_SECONDS").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn start(section: &str) -> Replica {
    let settings = ReplicaSettings {
        storage: &format!(
            ", maintenance: {{uploadpurging: {{age: {}s, interval: 5s}}}}",
            UPLOAD_AGE.as_secs()
        ),
        sections: SECTIONS,
        variables: &VARIABLES,
        ..ReplicaSettings::default()
    };
    Replica::with(section, settings)
}

/// Starts all replicas; the first one leads.
fn start_all(setup: &Setup<'_>) -> Vec<Replica> {
    let first = start(setup.section);
    if setup.replicas > 1 {
        first.server.log_line("this replica leads");
    }
    let mut all = vec![first];
    all.extend((1..setup.replicas).map(|_| start(setup.section)));
    all
}

/// Kills the replicas in turn, the first one last, and starts others in their places until told to end. Returns the
/// last ones, since clients still finish what they have begun, and the number of kills.
fn kill_replicas(
    section: &str,
    shared: &Replicas,
    mut replicas: Vec<Replica>,
    is_over: &AtomicBool,
) -> (Vec<Replica>, usize) {
    let mut kills = 0;
    let mut last = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if last.elapsed() < KILL_INTERVAL {
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        let index = (kills + 1) % replicas.len();
        // The old replica dies while requests are on their way, and a while before another takes its place.
        drop(replicas.remove(index));
        replicas.insert(index, start(section));
        shared.replace(index, replicas[index].peer());
        (kills, last) = (kills + 1, Instant::now());
    }
    (replicas, kills)
}

/// Puts load on a registry. Returns the last replicas.
fn load(setup: &Setup<'_>, ledger: &Ledger, events: &mut Events) -> Vec<Replica> {
    let replicas = start_all(setup);
    let peers: Vec<_> = replicas.iter().map(Replica::peer).collect();
    let (shared, is_over) = (Replicas::new(&peers), AtomicBool::new(false));
    let scene = Scene { replicas: &shared, ledger, is_over: &is_over };
    thread::scope(|scope| {
        let killer = scope.spawn(|| kill_replicas(setup.section, &shared, replicas, &is_over));
        let work = |number: usize| Worker::new(number, scene).run();
        let workers: Vec<_> = (0..WORKERS).map(|number| scope.spawn(move || work(number))).collect();
        let begin = Instant::now();
        while begin.elapsed() < duration() && workers.iter().all(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_secs(1));
            events.cycles.extend(cycles(setup.root));
            events.uploads = events.uploads.max(uploads(setup.root).len());
            events.uploads_in_parts = events.uploads_in_parts.max(setup.sessions_in_parts().len());
        }
        is_over.store(true, Ordering::Relaxed);
        let (replicas, kills) = killer.join().unwrap();
        events.kills = kills;
        for worker in workers {
            worker.join().unwrap();
        }
        replicas
    })
}

/// Waits until as many cycles have come that began after a time.
fn await_cycles(setup: &Setup<'_>, events: &mut Events, since: u64, count: usize) {
    let begun = Instant::now();
    while events.cycles.values().filter(|cycle| cycle.begun > since).count() < count {
        assert!(begun.elapsed() < rest_timeout(), "waiting for {count} cycles since {since}: {events:?}");
        thread::sleep(Duration::from_millis(200));
        events.cycles.extend(cycles(setup.root));
    }
}

fn await_end_of_uploads(name: &str, setup: &Setup<'_>) {
    let begun = Instant::now();
    loop {
        let left = uploads(setup.root);
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < rest_timeout(), "{name}: {} files of uploads stay: {left:#?}", left.len());
        thread::sleep(Duration::from_millis(200));
    }
}

/// Begins an upload that needs a part, and leaves it.
fn leave_upload_in_parts(name: &str, setup: &Setup<'_>, replica: &Replica) {
    let client = Client::new(&[replica.peer()], REPOSITORIES[0]);
    let at = client.begin();
    assert_eq!(client.patch(&at, 0, &vec![7; PART_BYTES + 1]).status, 202);
    assert!(setup.store.is_none() || !setup.sessions_in_parts().is_empty(), "{name}: no upload in parts");
}

/// Waits until the store has no upload in parts that is older than the age at which it must end.
fn await_end_of_parts(name: &str, setup: &Setup<'_>) {
    let begun = Instant::now();
    loop {
        let left = setup.sessions_in_parts();
        if left.is_empty() {
            return;
        }
        let waited = begun.elapsed();
        assert!(
            waited < rest_timeout(),
            "{name}: uploads in parts older than {UPLOAD_AGE:?} stay: {left:#?}"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

fn soak(name: &str, setup: &Setup<'_>) {
    let (ledger, mut events, begin) = (Ledger::default(), Events::default(), Instant::now());
    let replicas = load(setup, &ledger, &mut events);
    let (end, loaded) = (now(), begin.elapsed());
    let peak = measure(setup.root);
    leave_upload_in_parts(name, setup, &replicas[0]);
    await_cycles(setup, &mut events, end, SOON);
    let soon = measure(setup.root);
    assert!(soon.loose_bytes * 100 <= soon.bytes, "{name}: after {SOON} cycles: {soon:?}, {events:?}");
    let mut late = soon;
    if late.loose_bytes > 0 || late.loose_links > 0 {
        await_cycles(setup, &mut events, end, LATE);
        late = measure(setup.root);
    }
    assert_eq!(
        (late.loose_bytes, late.loose_links),
        (0, 0),
        "{name}: after {LATE} cycles: {late:?}, {events:?}"
    );
    await_end_of_uploads(name, setup);
    await_end_of_parts(name, setup);
    drop(replicas);
    let last = start(setup.section);
    let counts = ledger.check(|repository| Client::new(&[last.peer()], repository));
    let sum = |of: fn(&Cycle) -> u64| events.cycles.values().map(of).sum::<u64>();
    let (removed, revived) = (sum(|cycle| cycle.removed), sum(|cycle| cycle.revived));
    println!(
        "{name}: {} kills; {counts}; {} cycles, removed {removed}, revived {revived}; garbage after the load {} of {} \
         bytes, after {SOON} cycles {}, at last {}; uploads {} at most, {} in parts, 0 at last; load {loaded:.0?}, whole \
         {:.0?}",
        events.kills,
        events.cycles.len(),
        peak.loose_bytes,
        peak.bytes,
        soon.loose_bytes,
        late.loose_bytes,
        events.uploads,
        events.uploads_in_parts,
        begin.elapsed(),
    );
    assert!(events.kills > 0 || duration() < KILL_INTERVAL, "{name}: no replica was killed");
    assert!(removed > 0 && peak.loose_bytes > 0, "{name}: nothing was collected");
    let is_short = duration() < GRACE * 3;
    assert!(revived > 0 || is_short, "{name}: clients revived nothing");
    assert!(events.uploads > 0, "{name}: no upload was seen");
    // A client whose kind of act was never acknowledged would prove nothing.
    let Counts { pushed, passing, deleted, pulled, awaited, .. } = counts;
    let acts = [pushed, passing, deleted, pulled, awaited];
    assert!(acts.iter().all(|count| *count > 0) || is_short, "{name}: {counts}");
}

#[test]
#[ignore = "a command of its own: it takes a minute at least"]
fn three_replicas_on_a_bucket_lose_nothing_and_leave_no_garbage() {
    let Some(store) = Versitygw::on_disk() else { return };
    let section = section(store.address, "");
    soak("bucket", &Setup { section: &section, root: &store.objects(), store: Some(&store), replicas: 3 });
}

#[test]
#[ignore = "a command of its own: it takes a minute at least"]
fn a_process_on_a_folder_loses_nothing_and_leaves_no_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let section = format!("filesystem: {{rootdirectory: '{}'}}", folder.path().display());
    soak("folder", &Setup { section: &section, root: folder.path(), store: None, replicas: 1 });
}

/// A check that can find nothing would prove nothing.
#[test]
fn the_check_finds_an_acknowledged_image_that_a_store_has_lost() {
    let stub = StubStore::start(Shape::S3);
    let replica = Replica::start(&stub.section(""));
    let ledger = Ledger::default();
    let image = Image::new("amd64", &["one"], Packing::Plain);
    let client = |repository: &str| Client::new(&[replica.peer()], repository);
    for tag in ["kept", "lost"] {
        client("soak/a").push(Way::Put, tag, &image);
        ledger.note("soak/a", tag, &image, State::Pushed);
    }
    ledger.check(client);
    assert!(stub.mem().lose("docker/registry/v2/repositories/soak/a/_manifests/tags/lost/current/link"));
    let check = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ledger.check(client)));
    let message = *check.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("soak/a:lost is lost") && !message.contains("kept"), "{message}");
}

#[test]
fn the_measure_finds_bytes_links_and_uploads_that_no_manifest_needs() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::start(&format!("filesystem: {{rootdirectory: '{}'}}", folder.path().display()));
    let client = Client::new(&[replica.peer()], "soak/a");
    let [kept, lost] = ["kept", "lost"].map(|text| Image::new(text, &[text], Packing::Plain));
    client.push(Way::Put, "kept", &kept);
    let whole = measure(folder.path());
    assert_eq!((whole.loose_bytes, whole.loose_links, whole.uploads), (0, 0, 0));
    client.push(Way::Put, "lost", &lost);
    client.delete(&format!("manifests/{}", lost.digest()));
    let at = client.begin();
    assert_eq!(client.patch(&at, 0, b"bytes").status, 202);
    let found = measure(folder.path());
    assert_eq!(found.loose_bytes, found.bytes - whole.bytes);
    assert_eq!(found.loose_links, 2);
    assert!(found.loose_bytes > 0 && found.uploads > 0, "{found:?}");
}
