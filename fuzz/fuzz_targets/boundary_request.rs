//! A request that reads well reads well twice over, with twice the logs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::wire::boundary::Summary;

fuzz_target!(|payload: &[u8]| {
    let once = match Summary::read(payload) {
        Ok(once) => once,
        Err(error) => return assert!(error.offset <= payload.len()),
    };
    assert_eq!(once.sequences.is_some(), once.logs > 0);

    let doubled = payload.repeat(2);
    let twice = Summary::read(&doubled).expect("well-formed messages concatenate");
    assert_eq!(twice.logs, 2 * once.logs);
    assert_eq!(twice.sequences, once.sequences);
    assert_eq!(twice.session_id.of(&doubled), once.session_id.of(payload));
    assert_eq!(twice.process.of(&doubled), once.process.of(payload));
    assert!(once.mergeable || !twice.mergeable);
});
