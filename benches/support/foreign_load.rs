//! Load of other programs during a measurement. The load average would count the measurement too.

use std::fs;
use std::time::Instant;

/// Unit of processor times in `/proc`, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Begin of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForeignLoad {
    begin: Instant,
    /// Processor seconds of other programs until then.
    seconds: f64,
}

impl ForeignLoad {
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), seconds: foreign_seconds() }
    }

    /// Returns how many cores other programs have taken since the begin, on average. The programs that this
    /// one has started must have ended, since their time is known then.
    pub(crate) fn average(self) -> f64 {
        (foreign_seconds() - self.seconds) / self.begin.elapsed().as_secs_f64()
    }
}

/// Returns the load average of the last minute.
pub(crate) fn load_of_last_minute() -> f64 {
    super::load_average().split(' ').next().and_then(|load| load.parse().ok()).expect("Linux tells the load")
}

/// Returns the processor seconds of all programs but this one and those that it has waited for.
fn foreign_seconds() -> f64 {
    let all = fs::read_to_string("/proc/stat").expect("Linux tells processor times");
    let times = numbers(all.lines().next().expect("the first line is that of all cores"));
    // User, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen by other machines.
    let busy = times[0] + times[1] + times[2] + times[5] + times[6] + times[7];
    let own = fs::read_to_string("/proc/self/stat").expect("this process runs");
    // The name, in parentheses, may have spaces. User and system time, of this process and of those that it
    // has waited for, are the fields 14 to 17.
    let own = numbers(own.rsplit_once(") ").expect("the name is in parentheses").1);
    (busy - own[10..14].iter().sum::<f64>()) / TICKS_PER_SECOND
}

/// Returns the numbers behind the first word.
fn numbers(line: &str) -> Vec<f64> {
    line.split_whitespace().skip(1).map(|field| field.parse().expect("a number")).collect()
}
