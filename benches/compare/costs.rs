//! Costs of a request in the server, which the load of the machine changes less than rates: processor time,
//! system calls, and instructions where the machine counts them.

use super::comparison::Comparison;
use super::peers::Peer;
use super::row::Work;
use super::support::counters::{Event, count};
use super::support::process::Process;

/// Returns the work of the processor time of a request of another work.
pub(crate) fn processor_time(name: &str) -> Work {
    Work::cost(format!("{name}: processor time"), "µs/request")
}

/// Returns the result of a work, and the processor time of the server in microseconds for each request.
/// `work` also returns its number of requests.
pub(crate) fn with_processor_time<T>(server: &Process, work: impl FnOnce() -> (T, f64)) -> (T, f64) {
    let before = server.processor_seconds();
    let (result, requests) = work();
    (result, (server.processor_seconds() - before) * 1e6 / requests)
}

/// Events that can be counted here.
#[derive(Debug)]
pub(crate) struct Costs(Vec<Event>);

impl Costs {
    pub(crate) fn new(comparison: &Comparison) -> Self {
        let events = Event::available(&scratch(comparison));
        for event in [Event::SystemCalls, Event::Instructions] {
            if !events.contains(&event) {
                eprintln!("perf does not count {} here: they are left out", event.name());
            }
        }
        Self(events)
    }

    /// Counts what each request of a work costs on one connection. `ask` sends as many requests as it is
    /// told.
    pub(crate) fn count<'a>(
        &self,
        comparison: &mut Comparison,
        name: &str,
        peers: &[Peer],
        server: impl Fn(Peer) -> &'a Process,
        ask: impl Fn(&Process, usize),
    ) {
        let work = |event: &Event| {
            let work = Work::cost(format!("{name}: {}", event.name()), "/request");
            if *event == Event::SystemCalls { work.relative_to(Peer::Nginx, 1.0) } else { work }
        };
        let works: Vec<Work> = self.0.iter().map(work).collect();
        if works.is_empty() {
            return;
        }
        let (scratch, requests) = (scratch(comparison), comparison.options.counted_requests());
        comparison.rows_of_one_measurement(works, 1, peers, |peer| {
            let server = server(peer);
            let counts = count(&self.0, server, &scratch, || ask(server, requests));
            counts.into_iter().map(|count| count / requests as f64).collect()
        });
    }
}

fn scratch(comparison: &Comparison) -> std::path::PathBuf {
    comparison.options.dir.join("perf.csv")
}
