//! The `process_*` families, read from `/proc` (proc(5)) at each scrape.

use std::fs;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalog::{self, Family};
use super::sample;

const FAMILIES: &[Family] = &[
    catalog::PROCESS_CPU,
    catalog::PROCESS_OPEN_FDS,
    catalog::PROCESS_MAX_FDS,
    catalog::PROCESS_RESIDENT,
    catalog::PROCESS_VIRTUAL,
    catalog::PROCESS_THREADS,
    catalog::PROCESS_START,
];

/// Clock ticks per second in `/proc`: `USER_HZ`, the same on every architecture that Linux and Rust share.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads what the kernel says of this process. What cannot be read is left out of the page.
#[derive(Debug)]
pub struct ProcessCollector {
    descs: Vec<Desc>,
    /// Read once: the boot time that the kernel derives moves with the wall clock.
    started: Option<f64>,
}

impl ProcessCollector {
    /// A collector for this process.
    ///
    /// # Errors
    /// When a row of the catalogue is not a valid metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            descs: sample::describe(FAMILIES)?,
            started: started(),
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |key| field(&status, key).map(|kib| kib * 1024.0);
        let limit = getrlimit(Resource::Nofile).current;
        [
            (&catalog::PROCESS_CPU, Some(cpu_time().as_secs_f64())),
            (&catalog::PROCESS_OPEN_FDS, open_descriptors()),
            (
                &catalog::PROCESS_MAX_FDS,
                Some(limit.map_or(f64::INFINITY, |limit| limit as f64)),
            ),
            (&catalog::PROCESS_RESIDENT, kib("VmRSS:")),
            (&catalog::PROCESS_VIRTUAL, kib("VmSize:")),
            (&catalog::PROCESS_THREADS, field(&status, "Threads:")),
            (&catalog::PROCESS_START, self.started),
        ]
        .into_iter()
        .filter_map(|(family, value)| Some(sample::single(family, value?)))
        .collect()
    }
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

fn open_descriptors() -> Option<f64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // The directory is itself open while it is read.
    Some(entries.saturating_sub(1) as f64)
}

fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    Some(field(&machine, "btime")? + ticks_at_start(&stat)? / TICKS_PER_SECOND)
}

/// The number behind `key` at the start of a line.
fn field(text: &str, key: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Field 22 of `/proc/PID/stat`. Field 2, the command, may hold anything, `)` and blanks included.
fn ticks_at_start(stat: &str) -> Option<f64> {
    let (_, from_field_3) = stat.rsplit_once(')')?;
    from_field_3.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn value(family: &Family) -> f64 {
        let collector = ProcessCollector::new().unwrap();
        let families = collector.collect();
        let found = families.iter().find(|made| made.name() == family.name);
        let metric = &found.unwrap().get_metric()[0];
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    }

    #[test]
    fn this_process_is_described() {
        let held = fs::File::open("/proc/self/stat").unwrap();
        assert!(value(&catalog::PROCESS_OPEN_FDS) >= 4.0);
        drop(held);
        assert!(value(&catalog::PROCESS_MAX_FDS) >= value(&catalog::PROCESS_OPEN_FDS));
        assert!(value(&catalog::PROCESS_THREADS) >= 1.0);
        assert!(value(&catalog::PROCESS_CPU) > 0.0);
        let resident = value(&catalog::PROCESS_RESIDENT);
        assert!(resident > 1024.0 * 1024.0, "{resident}");
        assert!(value(&catalog::PROCESS_VIRTUAL) >= resident);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value(&catalog::PROCESS_START);
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_command_full_of_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 5 3 0 0 20 0 2 0 123456 1 2 3";
        assert_eq!(ticks_at_start(stat), Some(123_456.0));
        assert_eq!(ticks_at_start("7 (cut) S 1 7"), None);
        assert_eq!(ticks_at_start(""), None);
    }

    #[test]
    fn fields_are_found_by_their_key_at_the_start_of_a_line() {
        let status = "Name:\tVmRSS: 7\nVmRSS:\t    1234 kB\nThreads:\t2\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234.0));
        assert_eq!(field(status, "Threads:"), Some(2.0));
        assert_eq!(field(status, "VmSize:"), None);
    }
}
