//! Whatever frames go to and fro, the referee of a session decides without panicking, and a violation is the last
//! thing that it is asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::wire::yamux::{HEADER, Header, Referee};

/// Few enough for the limit to be met.
const MAX_STREAMS: usize = 8;

fuzz_target!(|data: &[u8]| {
    let mut referee = Referee::new(MAX_STREAMS);
    // A byte says who sends, then the header.
    for frame in data.chunks_exact(1 + HEADER) {
        let Some((sender, Ok(header))) = frame.split_first().map(|(sender, header)| {
            let header: Result<[u8; HEADER], _> = header.try_into();
            (sender, header)
        }) else {
            return;
        };
        let Ok(header) = Header::decode(header) else {
            return;
        };
        if sender & 1 == 0 {
            referee.sent(&header);
        } else if referee.received(&header).is_err() {
            return;
        }
    }
});
