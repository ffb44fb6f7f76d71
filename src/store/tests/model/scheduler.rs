//! Scheduler of actors, each on a thread of its own, of which one runs at a time.
//!
//! Each request to the storage is a choice: the actor that is about to send one waits until the scheduler
//! chooses it. What an actor does between two requests is one step. Time passes at choices alone. So an order
//! of steps, and each time that an actor reads, follow from the seed.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::pool::Pool;
use super::rng::Rng;
use crate::shared::MAX_HEARTBEAT_AGE;
use crate::waiting;

/// Value of `running` while no actor runs.
const NONE: usize = usize::MAX;

/// Value of `running` once the schedule has failed, and all actors shall end.
const ALL: usize = usize::MAX - 1;

/// Time after which a freeze can be ended by others: they have taken over.
const LEAST_FREEZE: Duration = Duration::from_secs(35);

/// Number of requests after which a schedule counts as endless.
const MAX_STEPS: usize = 20_000;

/// Way of choosing the next actor.
#[derive(Clone, Debug)]
pub(super) enum Policy {
    /// Each actor is as likely as the others.
    Uniform,
    /// The actor that runs goes on in most cases.
    Sticky,
    /// The actor of the highest priority runs, and loses its priority at some steps (PCT: Burckhardt et al.,
    /// ASPLOS 2010): finds orders that need few changes of actors at the right places.
    Priorities { priorities: Vec<u64>, changes: Vec<usize> },
}

/// Stop of all actors of a group for a time, as by SIGSTOP.
#[derive(Clone, Debug)]
pub(super) struct Freeze {
    pub(super) group: usize,
    /// Text of the requests that count, such as a part of a key, or the end of one with a method.
    pub(super) before: &'static str,
    /// Number of such requests that go before.
    pub(super) count: usize,
    pub(super) length: Duration,
    /// Text of a request of another group that ends the stop before, if half a minute has passed.
    pub(super) until: Option<&'static str>,
}

/// Properties of a schedule that hold for all of its actors.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) policy: Policy,
    pub(super) freezes: Vec<Freeze>,
    /// Greatest time that passes at a request, but for rare longer ones.
    pub(super) latency: Duration,
    /// One of so many answers comes after requests of others.
    pub(super) late_answers: usize,
    pub(super) start: Duration,
}

/// An actor: its name, the group that is frozen as a whole, and its work.
pub(super) struct Actor {
    pub(super) name: String,
    pub(super) group: usize,
    /// The schedule ends without waiting for this actor, which then finds that the schedule is over.
    pub(super) is_background: bool,
    pub(super) work: Box<dyn FnOnce() + Send>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    Ready,
    Sleeping(Duration),
    /// Waits for a written key that contains a text, or for a time.
    Awaiting(&'static str, Duration),
    /// Waits for a lock that was held at this number of ended steps.
    Blocked(usize),
    Done,
}

#[derive(Debug)]
struct Known {
    name: String,
    group: usize,
    is_background: bool,
    status: Status,
}

/// State of a group: the time until which it is frozen, and the text of a request of others that ends this
/// before.
#[derive(Clone, Copy, Debug, Default)]
struct Frozen {
    until: Duration,
    before: Option<&'static str>,
    since: Duration,
}

#[derive(Debug)]
struct State {
    actors: Vec<Known>,
    rng: Rng,
    manner: Manner,
    now: Duration,
    steps: usize,
    /// Number of steps that have ended otherwise than at a lock.
    ended: usize,
    frozen: Vec<Frozen>,
    trace: Option<Vec<String>>,
    failure: Option<String>,
}

/// Scheduler of one schedule.
pub(super) struct Scheduler {
    state: Mutex<State>,
    threads: Vec<Thread>,
    running: AtomicUsize,
    left: AtomicUsize,
    main: Thread,
}

/// Outcome of a schedule.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) failure: Option<String>,
    pub(super) steps: usize,
}

/// Panic of an actor that ends because its schedule has failed.
struct Aborted;

thread_local! {
    /// Scheduler and number of the actor that this thread plays.
    static CURRENT: RefCell<Option<(Arc<Scheduler>, usize)>> = const { RefCell::new(None) };
}

/// Returns the scheduler and the number of the actor that this thread plays.
pub(super) fn current() -> Option<(Arc<Scheduler>, usize)> {
    CURRENT.with_borrow(Clone::clone)
}

// === impl Manner ===

impl Manner {
    /// Returns true if several replicas stop for so long that others take them to be gone.
    pub(super) fn stops_several(&self) -> bool {
        let is_long = |freeze: &&Freeze| freeze.length > MAX_HEARTBEAT_AGE;
        self.freezes.iter().filter(is_long).map(|freeze| freeze.group).collect::<HashSet<_>>().len() > 1
    }
}

// === impl State ===

impl State {
    fn is_frozen(&self, actor: &Known) -> bool {
        self.frozen[actor.group].until > self.now
    }

    fn may_run(&self, actor: &Known) -> bool {
        let is_due = match actor.status {
            Status::Ready => true,
            Status::Sleeping(until) | Status::Awaiting(_, until) => until <= self.now,
            Status::Blocked(since) => since < self.ended,
            Status::Done => false,
        };
        is_due && !self.is_frozen(actor)
    }

    /// Returns the next time at which an actor may run.
    fn next_time(&self) -> Option<Duration> {
        let time = |actor: &Known| {
            let due = match actor.status {
                Status::Ready => self.now,
                Status::Sleeping(until) | Status::Awaiting(_, until) => until,
                Status::Blocked(_) | Status::Done => return None,
            };
            Some(due.max(self.frozen[actor.group].until))
        };
        self.actors.iter().filter_map(time).min()
    }

    /// Chooses the actor that runs next; `None` if all have ended, or none ever can run.
    fn pick(&mut self, former: usize) -> Option<usize> {
        let mut due: Vec<usize> =
            (0..self.actors.len()).filter(|at| self.may_run(&self.actors[*at])).collect();
        if due.is_empty() {
            self.now = self.next_time()?.max(self.now);
            due.extend((0..self.actors.len()).filter(|at| self.may_run(&self.actors[*at])));
        }
        if due.is_empty() {
            return None;
        }
        let chosen = if due.len() == 1 { due[0] } else { self.choose(&due, former) };
        self.actors[chosen].status = Status::Ready;
        self.steps += 1;
        let latency = self.manner.latency;
        let longest = if self.rng.chance(1, 24) { latency * 40 } else { latency };
        self.now += self.rng.within(longest);
        Some(chosen)
    }

    fn choose(&mut self, due: &[usize], former: usize) -> usize {
        match &mut self.manner.policy {
            Policy::Sticky if due.contains(&former) && self.rng.chance(4, 5) => former,
            Policy::Uniform | Policy::Sticky => *self.rng.choose(due),
            Policy::Priorities { priorities, changes } => {
                if changes.contains(&self.steps)
                    && let Some(known) = priorities.get_mut(former)
                {
                    *known = self.rng.next() >> 32;
                }
                *due.iter().max_by_key(|at| priorities[**at]).expect("some actor is due")
            }
        }
    }

    /// Notes that an actor is about to send a request, and freezes its group if that is the time.
    fn announce(&mut self, actor: usize, request: &str) {
        self.ended += 1;
        let group = self.actors[actor].group;
        for (of, frozen) in self.frozen.iter_mut().enumerate() {
            let is_end = of != group
                && frozen.before.is_some_and(|part| request.contains(part))
                && self.now > frozen.since + LEAST_FREEZE;
            if is_end && frozen.until > self.now {
                frozen.until = self.now;
                self.trace
                    .iter_mut()
                    .for_each(|trace| trace.push(format!("{} group {of} thaws", seconds(self.now))));
            }
        }
        for freeze in &mut self.manner.freezes {
            if freeze.group != group || !request.contains(freeze.before) {
                continue;
            }
            if freeze.count == 0 && !freeze.length.is_zero() {
                let until = self.now + std::mem::take(&mut freeze.length);
                self.frozen[group] = Frozen { until, before: freeze.until, since: self.now };
                if let Some(trace) = &mut self.trace {
                    trace.push(format!("{} frozen until {}", self.actors[actor].name, seconds(until)));
                }
            }
            freeze.count = freeze.count.saturating_sub(1);
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

// === impl Scheduler ===

impl Scheduler {
    /// Runs actors to their ends, or until one fails. Steps are described if `is_traced`.
    pub(super) fn run(
        pool: &Pool,
        (manner, seed): (Manner, u64),
        is_traced: bool,
        build: impl FnOnce(&Arc<Self>) -> Vec<Actor>,
    ) -> Outcome {
        let state = State {
            actors: Vec::new(),
            rng: Rng::new(seed),
            now: manner.start,
            manner,
            steps: 0,
            ended: 0,
            frozen: Vec::new(),
            trace: is_traced.then(Vec::new),
            failure: None,
        };
        let scheduler = Arc::new(Self {
            state: Mutex::new(state),
            threads: pool.threads(),
            running: AtomicUsize::new(NONE),
            left: AtomicUsize::new(0),
            main: thread::current(),
        });
        let actors = build(&scheduler);
        assert!(actors.len() <= scheduler.threads.len(), "the pool has a thread for each actor");
        scheduler.left.store(actors.len(), Ordering::Release);
        {
            let mut state = scheduler.state();
            state.frozen =
                vec![Frozen::default(); actors.iter().map(|actor| actor.group + 1).max().unwrap_or(0)];
            let known = |actor: &Actor| Known {
                name: actor.name.clone(),
                group: actor.group,
                is_background: actor.is_background,
                status: Status::Ready,
            };
            state.actors = actors.iter().map(known).collect();
        }
        for (index, actor) in actors.into_iter().enumerate() {
            let scheduler = scheduler.clone();
            pool.run(index, Box::new(move || scheduler.play(index, actor.work)));
        }
        scheduler.hand_over(scheduler.state(), NONE);
        while scheduler.left.load(Ordering::Acquire) != 0 {
            thread::park();
        }
        let mut state = scheduler.state();
        Outcome { failure: state.failure.take(), steps: state.steps }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present time of the schedule.
    pub(super) fn now(&self) -> Duration {
        self.state().now
    }

    /// Returns a number below `end` that belongs to the schedule.
    pub(super) fn draw(&self, end: usize) -> usize {
        self.state().rng.below(end)
    }

    /// Returns the description of the steps so far.
    pub(super) fn take_trace(&self) -> Vec<String> {
        self.state().trace.take().unwrap_or_default()
    }

    /// Moves an actor to another group, with which it is frozen.
    pub(super) fn join(&self, actor: usize, group: usize) {
        self.state().actors[actor].group = group;
    }

    /// Lets time pass after the schedule.
    pub(super) fn advance(&self, time: Duration) {
        self.state().now += time;
    }

    /// Returns the time until which no actor but those in the background does anything.
    pub(super) fn quiet_until(&self) -> Duration {
        let state = self.state();
        let due = |actor: &Known| match actor.status {
            _ if actor.is_background => None,
            Status::Sleeping(until) | Status::Awaiting(_, until) => Some(until),
            Status::Ready | Status::Blocked(_) => Some(state.now),
            Status::Done => None,
        };
        state.actors.iter().filter_map(due).min().unwrap_or(state.now)
    }

    /// Returns true if only actors in the background are left.
    pub(super) fn is_over(&self) -> bool {
        self.state().actors.iter().all(|actor| actor.is_background || actor.status == Status::Done)
    }

    /// Waits until the scheduler chooses the actor for a request.
    ///
    /// `request` is its key and method, by which freezes find it.
    pub(super) fn turn(&self, actor: usize, request: &str, describe: impl FnOnce() -> String) {
        if thread::panicking() {
            return;
        }
        let mut state = self.state();
        state.announce(actor, request);
        state.actors[actor].status = Status::Ready;
        self.hand_over(state, actor);
        let mut state = self.state();
        if state.trace.is_some() {
            let line = format!("{} {:<12} {}", seconds(state.now), state.actors[actor].name, describe());
            state.trace.iter_mut().for_each(|trace| trace.push(line.clone()));
        }
    }

    /// Lets requests of others come before the answer, now and then.
    pub(super) fn answer(&self, actor: usize) {
        if thread::panicking() {
            return;
        }
        let mut state = self.state();
        let rate = state.manner.late_answers;
        if rate > 0 && state.rng.chance(1, rate) {
            self.hand_over(state, actor);
        }
    }

    /// Adds a line to the description of the schedule.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.trace.is_some() {
            let line = format!("{} {}", seconds(state.now), line());
            state.trace.iter_mut().for_each(|trace| trace.push(line.clone()));
        }
    }

    /// Sleeps until a time of the schedule.
    pub(super) fn sleep_until(&self, actor: usize, until: Duration) {
        self.wait_as(actor, Status::Sleeping(until));
    }

    /// Sleeps for a time of the schedule.
    pub(super) fn sleep(&self, actor: usize, length: Duration) {
        self.sleep_until(actor, self.now() + length);
    }

    /// Waits until a key is written that contains a text, or until a time.
    pub(super) fn await_write(&self, actor: usize, part: &'static str, until: Duration) {
        self.wait_as(actor, Status::Awaiting(part, until));
    }

    fn wait_as(&self, actor: usize, status: Status) {
        if thread::panicking() {
            return;
        }
        let mut state = self.state();
        state.ended += 1;
        state.actors[actor].status = status;
        self.hand_over(state, actor);
    }

    /// Wakes those that wait for a key.
    pub(super) fn wake_for(&self, key: &str) {
        for actor in &mut self.state().actors {
            if matches!(actor.status, Status::Awaiting(part, _) if key.contains(part)) {
                actor.status = Status::Ready;
            }
        }
    }

    /// Ends the schedule as failed, and this actor.
    pub(super) fn fail(&self, failure: String) -> ! {
        self.end_all(self.state(), failure);
        resume_unwind(Box::new(Aborted))
    }

    fn end_all(&self, mut state: MutexGuard<'_, State>, failure: String) {
        state.failure.get_or_insert(failure);
        drop(state);
        self.running.store(ALL, Ordering::Release);
        self.threads.iter().for_each(Thread::unpark);
    }

    /// Lets the next actor run, and waits until `actor` runs again.
    fn hand_over(&self, mut state: MutexGuard<'_, State>, actor: usize) {
        if state.failure.is_none() {
            if state.steps > MAX_STEPS {
                self.end_all(state, format!("the schedule has more than {MAX_STEPS} steps"));
            } else if let Some(next) = state.pick(actor) {
                drop(state);
                if next == actor {
                    return;
                }
                self.running.store(next, Ordering::Release);
                self.threads[next].unpark();
            } else if state.actors.iter().any(|actor| actor.status != Status::Done) {
                let waits = state.actors.iter().filter(|actor| actor.status != Status::Done);
                let waits: Vec<String> =
                    waits.map(|actor| format!("{}: {:?}", actor.name, actor.status)).collect();
                self.end_all(state, format!("all actors wait for each other: {}", waits.join(", ")));
            } else {
                drop(state);
            }
        } else {
            drop(state);
        }
        if actor != NONE && !self.wait_for_turn(actor) {
            resume_unwind(Box::new(Aborted));
        }
    }

    /// Returns false if the schedule has failed.
    fn wait_for_turn(&self, actor: usize) -> bool {
        loop {
            match self.running.load(Ordering::Acquire) {
                running if running == actor => return true,
                ALL => return false,
                _ => thread::park(),
            }
        }
    }

    /// Plays an actor on the thread of this call.
    fn play(self: Arc<Self>, index: usize, work: Box<dyn FnOnce() + Send>) {
        CURRENT.set(Some((self.clone(), index)));
        waiting::set_yielding(Some(Box::new(yield_blocked)));
        let result = if self.wait_for_turn(index) { catch_unwind(AssertUnwindSafe(work)) } else { Ok(()) };
        waiting::set_yielding(None);
        CURRENT.set(None);
        let mut state = self.state();
        state.ended += 1;
        state.actors[index].status = Status::Done;
        match result.map_err(|panic| message(&*panic)) {
            Err(Some(panic)) => {
                let name = state.actors[index].name.clone();
                self.end_all(state, format!("{name} has panicked: {panic}"));
            }
            Err(None) => drop(state),
            // Without a wait for the next turn.
            Ok(()) => self.hand_over(state, NONE),
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.main.unpark();
        }
    }
}

/// Returns the text of a panic; `None` for an actor that was told to end.
fn message(panic: &(dyn Any + Send)) -> Option<String> {
    if panic.is::<Aborted>() {
        return None;
    }
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).or(Some(String::new()))
}

/// Lets others run, because a lock is held by one of them.
fn yield_blocked() {
    if let Some((scheduler, actor)) = current()
        && !thread::panicking()
    {
        let mut state = scheduler.state();
        state.actors[actor].status = Status::Blocked(state.ended);
        scheduler.hand_over(state, actor);
    }
}
