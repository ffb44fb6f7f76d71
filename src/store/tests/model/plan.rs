//! Plan of a schedule, made of its seed: what is stored before, what the clients do, and how the scheduler
//! chooses.

use std::time::Duration;

use super::bucket::StoreManner;
use super::rng::Rng;
use super::scheduler::{Freeze, Manner, Policy};
use super::universe::{IMAGES, INDEX, REFERRER, REPOSITORIES, TAGS, universe};

/// Time for which condemned content stays.
pub(super) const GRACE: Duration = Duration::from_mins(10);

/// Greatest age of a view of the condemned content that vouches for anything.
pub(super) const VIEW_LIFETIME: Duration = Duration::from_mins(1);

/// Time for which an answer to a client holds what it speaks of.
pub(super) const HOLD: Duration = Duration::from_secs(GRACE.as_secs() - VIEW_LIFETIME.as_secs());

/// Age below which content counts as used.
pub(super) const MIN_AGE: Duration = Duration::from_mins(5);

/// Time of the schedule at its begin.
pub(super) const START: Duration = Duration::from_hours(100_000);

/// Number of replicas.
pub(super) const REPLICAS: usize = 2;

/// Keys whose writes clients wait for: the phases of a collection, and those of another client's change.
const PHASES: [&str; 13] = [
    "/owner",
    "/list-",
    "/sealed",
    "/doom/",
    "/alive/",
    "/doomed/",
    "/done/",
    "/swept",
    "/leader/",
    "/_layers/",
    "/revisions/",
    "/current/link",
    "/intents/",
];

/// Texts of requests before which a replica is stopped, or goes on; the first one is that of all requests.
const STOPS: [&str; 16] = [
    "",
    "DELETE-FENCED",
    "DELETE-FENCED",
    "DELETE",
    "CREATE",
    "/owner",
    "/sealed",
    "/doom/",
    "/alive/",
    "/doomed/",
    "/done/",
    "/swept",
    "/data PUT",
    "/_layers/",
    "/revisions/",
    "/current/link",
];

/// Content that most operations of a schedule are about, so that they meet.
#[derive(Clone, Copy, Debug)]
struct Focus {
    repository: usize,
    image: usize,
    tag: usize,
    phase: &'static str,
}

/// Begin of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    AtOnce,
    After(Duration),
    /// Once a key is written that contains the text, but after three times the grace at the latest.
    At(&'static str),
}

/// Way in which a client brings the blobs of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Asks for each blob, and sends those that are absent.
    Ask,
    /// Asks for each blob, and then for a mount.
    Mount(Option<usize>),
    /// Sends each blob.
    Send,
}

/// Operation of a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// Pushes an image, with a pause between the blobs and the manifest.
    Push {
        repository: usize,
        image: usize,
        tags: &'static [usize],
        way: Way,
        pause: Begin,
    },
    /// Reads the image of a tag, and pushes its manifest as another tag.
    Retag {
        repository: usize,
        tag: usize,
        to: usize,
        pause: Begin,
    },
    /// Asks for a manifest by its digest, and pushes it as a tag later.
    TagByDigest {
        repository: usize,
        image: usize,
        tag: usize,
        pause: Begin,
    },
    Pull {
        repository: usize,
        tag: usize,
    },
    Untag {
        repository: usize,
        tag: usize,
    },
    /// Judges a tag as retention does, and removes it if it is still what was judged.
    Retain {
        repository: usize,
        tag: usize,
        pause: Begin,
    },
    Remove {
        repository: usize,
        image: usize,
    },
    /// Asks for a blob alone.
    Look {
        repository: usize,
        blob: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) begin: Begin,
    pub(super) replica: usize,
    pub(super) operation: Operation,
}

/// Content that is stored before the schedule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored {
    Image {
        repository: usize,
        image: usize,
        tag: Option<usize>,
    },
    /// Blob of a repository that no manifest needs.
    Blob {
        repository: usize,
        blob: usize,
    },
    /// Bytes of a blob that no repository has.
    Bytes {
        blob: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) keeps_untagged: bool,
    pub(super) store_manner: StoreManner,
    /// Differences of the replicas' clocks.
    pub(super) clocks: [Duration; REPLICAS],
    /// Content with its age.
    pub(super) stored: Vec<(Stored, Duration)>,
    pub(super) clients: Vec<Vec<Planned>>,
    pub(super) manner: Manner,
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
        let keeps_untagged = rng.chance(1, 2);
        let focus = Focus {
            repository: rng.below(REPOSITORIES),
            image: *rng.choose(&[0, 0, 0, 1, INDEX, REFERRER]),
            tag: rng.below(TAGS),
            phase: rng.choose::<&str>(&PHASES),
        };
        let stored = (0..=rng.below(3)).map(|_| stored(focus, rng)).collect();
        let clients = (0..=rng.below(3)).map(|_| client(focus, rng)).collect();
        let plan = Self {
            keeps_untagged,
            store_manner: StoreManner {
                has_whole_seconds: rng.chance(1, 2),
                fences_by_version: seed % 4 == 3,
            },
            clocks: [Duration::from_hours(1), Duration::from_hours(1) + rng.within(Duration::from_hours(96))],
            stored,
            clients,
            manner: manner(rng),
        };
        if rng.chance(1, 6) { plan.with_zombie(focus, rng) } else { plan }
    }

    /// Returns the plan with a collector that is stopped in the middle of a removal, goes on when another one
    /// is there as well, and meets a client who sends what is removed.
    fn with_zombie(mut self, focus: Focus, rng: &mut Rng) -> Self {
        let blob = rng.below(2);
        self.stored = vec![(Stored::Blob { repository: focus.repository, blob }, Duration::from_hours(24))];
        let stop = Freeze {
            group: 0,
            before: rng.choose::<&str>(&["/link DELETE", "/data DELETE", "/done/", "/doomed/", "/doom/"]),
            count: rng.below(2),
            length: GRACE * 3,
            until: Some(*rng.choose::<&str>(&[
                "/link DELETE",
                "/done/",
                "/_layers/",
                "/swept",
                "/revisions/",
            ])),
        };
        self.manner.freezes = vec![Freeze { group: 1, ..stop.clone() }, stop];
        self.manner.freezes.truncate(1 + rng.below(2));
        let operation = Operation::Push {
            repository: focus.repository,
            image: 0,
            tags: &[0],
            way: if rng.chance(1, 2) { Way::Send } else { Way::Ask },
            pause: Begin::AtOnce,
        };
        let begin = Begin::At(rng.choose::<&str>(&["/doomed/", "/done/", "/swept"]));
        let push = |replica| vec![Planned { begin, replica, operation }];
        self.clients = (0..REPLICAS).map(push).collect();
        self
    }
}

// === impl Focus ===

impl Focus {
    /// Returns the focus, or another one in some cases.
    fn vary(self, rng: &mut Rng) -> Self {
        Self {
            repository: if rng.chance(3, 4) { self.repository } else { rng.below(REPOSITORIES) },
            image: if rng.chance(3, 4) { self.image } else { rng.below(IMAGES) },
            tag: if rng.chance(3, 4) { self.tag } else { rng.below(TAGS) },
            phase: if rng.chance(1, 2) { self.phase } else { rng.choose::<&str>(&PHASES) },
        }
    }
}

fn stored(focus: Focus, rng: &mut Rng) -> (Stored, Duration) {
    let Focus { repository, image, tag, .. } = focus.vary(rng);
    let stored = match rng.below(4) {
        0 => Stored::Image { repository, image, tag: None },
        1 => Stored::Image { repository, image, tag: Some(tag) },
        2 => Stored::Blob { repository, blob: rng.below(universe().blobs.len()) },
        _ => Stored::Bytes { blob: rng.below(universe().blobs.len()) },
    };
    let age = if rng.chance(1, 5) { rng.within(MIN_AGE) } else { Duration::from_hours(24) };
    (stored, age)
}

fn begin(phase: &'static str, rng: &mut Rng) -> Begin {
    match rng.below(8) {
        0 | 1 => Begin::AtOnce,
        2 => Begin::After(rng.within(GRACE * 2)),
        _ => Begin::At(phase),
    }
}

/// Returns the pause of a client between a look and what follows from it: at most as long as the look holds.
fn pause(phase: &'static str, rng: &mut Rng) -> Begin {
    let longest = HOLD * 9 / 10;
    match rng.below(4) {
        0 => Begin::AtOnce,
        1 => Begin::After(rng.within(longest)),
        2 => Begin::After(longest),
        _ => Begin::At(phase),
    }
}

fn client(focus: Focus, rng: &mut Rng) -> Vec<Planned> {
    let operation = |rng: &mut Rng| {
        let Focus { repository, image, tag, phase } = focus.vary(rng);
        match rng.below(12) {
            0..=4 => {
                let ways =
                    [Way::Ask, Way::Ask, Way::Mount(None), Way::Mount(Some(1 - repository)), Way::Send];
                let (way, pause) = (*rng.choose(&ways), pause(phase, rng));
                let tags = match rng.below(8) {
                    0 | 1 => &[][..],
                    2 => &[0, 1],
                    _ => [&[0][..], &[1]][tag],
                };
                Operation::Push { repository, image, tags, way, pause }
            }
            5 => Operation::Retag { repository, tag, to: 1 - tag, pause: pause(phase, rng) },
            6 => Operation::TagByDigest { repository, image, tag, pause: pause(phase, rng) },
            7 => Operation::Pull { repository, tag },
            8 if rng.chance(1, 2) => Operation::Untag { repository, tag },
            8 => Operation::Retain { repository, tag, pause: pause(phase, rng) },
            9 | 10 => Operation::Remove { repository, image },
            _ => Operation::Look { repository, blob: rng.below(universe().blobs.len()) },
        }
    };
    let planned = |rng: &mut Rng| Planned {
        begin: begin(focus.vary(rng).phase, rng),
        replica: rng.below(REPLICAS),
        operation: operation(rng),
    };
    (0..=rng.below(4)).map(|_| planned(rng)).collect()
}

fn manner(rng: &mut Rng) -> Manner {
    let policy = match rng.below(4) {
        0 => Policy::Uniform,
        1 => Policy::Sticky,
        _ => {
            let changes = (0..=rng.below(3)).map(|_| rng.below(600)).collect();
            Policy::Priorities { priorities: (0..16).map(|_| rng.next() >> 32).collect(), changes }
        }
    };
    let freeze = |rng: &mut Rng| {
        let before = rng.choose::<&str>(&STOPS);
        let count = if before.is_empty() { rng.below(400) } else { rng.below(3) };
        let lengths = [Duration::from_secs(12), VIEW_LIFETIME * 2, GRACE, GRACE * 3, GRACE * 3];
        let until = if rng.chance(1, 2) { Some(*rng.choose::<&str>(&STOPS[1..])) } else { None };
        Freeze { group: rng.below(REPLICAS), before, count, length: *rng.choose(&lengths), until }
    };
    Manner {
        policy,
        freezes: (0..rng.below(3)).map(|_| freeze(rng)).collect(),
        latency: *rng.choose(&[2, 50, 400].map(Duration::from_millis)),
        late_answers: *rng.choose(&[0, 4, 12]),
        start: START,
    }
}
