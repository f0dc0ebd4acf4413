//! Where logs come from, and how fast.

use std::io::{self, BufReader, Read};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::coop;
use tokio::time::{Instant, sleep_until};

use super::lines::{BadLine, Lines};
use super::log::Log;

/// Lines that are read ahead: enough to keep the reading thread and the producer busy side by
/// side, and little beside what a pipe holds.
const LINES_AHEAD: usize = 64;

/// How far a source may fall behind its rate and make it up again. Timers are a millisecond
/// coarse, so high rates come in small bursts; what was missed for longer is not owed.
const MAX_ARREARS: Duration = Duration::from_millis(100);

/// Logs a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(Duration);

impl Rate {
    /// `per_second` logs a second; `None` unless that is a number from 0.001 to 1 000 000.
    pub fn new(per_second: f64) -> Option<Self> {
        (0.001..=1e6)
            .contains(&per_second)
            .then(|| Self(Duration::from_secs_f64(per_second.recip())))
    }

    /// How long this many logs take.
    pub fn time_of(self, logs: u64) -> Duration {
        self.0
            .saturating_mul(u32::try_from(logs).unwrap_or(u32::MAX))
    }
}

/// A sequence of logs.
#[derive(Debug)]
pub struct Source {
    feed: Feed,
    pace: Option<Pace>,
}

#[derive(Debug)]
enum Feed {
    MadeUp {
        next: u64,
        end: u64,
        url_bytes: usize,
    },
    Lines(mpsc::Receiver<io::Result<Result<Log, BadLine>>>),
}

/// What a source gives.
#[derive(Debug)]
pub(super) enum Item {
    Log(Log),
    Bad(BadLine),
    /// The input cannot be read any further.
    Failed(io::Error),
    End,
}

impl Source {
    /// `count` made-up logs with URLs of `url_bytes` bytes, but at least
    /// [`MIN_URL_BYTES`](super::MIN_URL_BYTES).
    pub fn made_up(count: u64, url_bytes: usize) -> Self {
        Self {
            feed: Feed::MadeUp {
                next: 0,
                end: count,
                url_bytes,
            },
            pace: None,
        }
    }

    /// The logs in `input`, as [`Lines`] reads them.
    ///
    /// They are read by a thread of their own, which ends with the input, or with the first line
    /// it reads after the source is gone.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn lines(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(LINES_AHEAD);
        thread::Builder::new()
            .name("emit-input".to_owned())
            .spawn(move || {
                for item in Lines::new(BufReader::new(input)) {
                    let failed = item.is_err();
                    if sender.blocking_send(item).is_err() || failed {
                        break;
                    }
                }
            })?;
        Ok(Self {
            feed: Feed::Lines(receiver),
            pace: None,
        })
    }

    /// The same logs, no faster than `rate`.
    pub fn at_rate(self, rate: Rate) -> Self {
        Self {
            pace: Some(Pace {
                interval: rate.0,
                due: Instant::now(),
            }),
            ..self
        }
    }

    /// The next item. Nothing is lost when this is dropped before it ends.
    pub(super) async fn next(&mut self) -> Item {
        // What is always ready would keep the task from ever yielding.
        coop::consume_budget().await;
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
        let item = match &mut self.feed {
            Feed::MadeUp { next, end, .. } if next == end => Item::End,
            Feed::MadeUp {
                next, url_bytes, ..
            } => {
                let log = Log::made_up(*next, SystemTime::now(), *url_bytes);
                *next += 1;
                Item::Log(log)
            }
            Feed::Lines(receiver) => match receiver.recv().await {
                None => Item::End,
                Some(Ok(Ok(log))) => Item::Log(log),
                Some(Ok(Err(bad))) => Item::Bad(bad),
                Some(Err(error)) => Item::Failed(error),
            },
        };
        if let Some(pace) = &mut self.pace {
            pace.advance(Instant::now());
        }
        item
    }
}

#[derive(Debug)]
struct Pace {
    interval: Duration,
    due: Instant,
}

impl Pace {
    async fn wait(&self) {
        if Instant::now() < self.due {
            sleep_until(self.due).await;
        }
    }

    fn advance(&mut self, now: Instant) {
        let oldest = now.checked_sub(MAX_ARREARS).unwrap_or(self.due);
        self.due = self.due.max(oldest) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drain(mut source: Source) -> Vec<Item> {
        let mut items = Vec::new();
        loop {
            match source.next().await {
                Item::End => return items,
                item => items.push(item),
            }
        }
    }

    #[test]
    fn a_rate_is_a_number_that_time_can_keep() {
        for refused in [0.0, -1.0, 0.000_9, 1e6 + 1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::new(refused), None, "{refused}");
        }
        assert_eq!(Rate::new(20.0), Some(Rate(Duration::from_millis(50))));
    }

    #[tokio::test(start_paused = true)]
    async fn logs_come_at_their_rate() {
        for rate in [0.5, 20.0, 5_000.0] {
            let start = Instant::now();
            let source = Source::made_up(101, 0).at_rate(Rate::new(rate).unwrap());
            assert_eq!(drain(source).await.len(), 101);
            let expected = 101.0 / rate;
            let taken = start.elapsed().as_secs_f64();
            // The end comes one interval after the last log; timers are a millisecond coarse.
            assert!((taken - expected).abs() <= 0.002, "{taken} s at {rate}/s");
        }
    }

    #[test]
    fn arrears_are_bounded() {
        let start = Instant::now();
        let interval = Duration::from_millis(10);
        let mut pace = Pace {
            interval,
            due: start,
        };
        let late = start + Duration::from_secs(60);
        let mut at_once = 0;
        while pace.due <= late {
            pace.advance(late);
            at_once += 1;
        }
        assert_eq!(at_once, 11, "the one that is due and 100 ms of others");
    }

    #[tokio::test]
    async fn an_input_that_fails_says_so_after_the_lines_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let line = &br#"{"allowed":true,"http_method":"GET","http_url":"u"}
            x
        "#[..];
        let source = Source::lines(line.chain(Broken)).unwrap();
        let items = drain(source).await;
        assert!(
            matches!(&items[..], [Item::Log(_), Item::Bad(_), Item::Failed(_)]),
            "{items:?}"
        );
    }
}
