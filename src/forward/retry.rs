//! What an answer means: the one table that decides about repetition, splitting and loss.
//!
//! A transport says what was seen of an attempt ([`Outcome`]); this module says what follows. Waiting for a new
//! link is not decided here: after [`Verdict::Return`] the link counts as lost, and its own backoff applies.

use crate::upstream::Outcome;

/// How often a request that the control plane refuses is tried on a working link before it is split or dropped.
pub const MAX_REFUSALS: u32 = 3;

/// What to do with an attempt that may or may not have been handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Send it again; the control plane may see it twice, because it does not recognise duplicates.
    AtLeastOnce,
    /// Drop it; the control plane may not have seen it.
    AtMostOnce,
}

/// What an attempt was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How many batches were sent as one request.
    pub batches: usize,
    /// How often this request had been refused before.
    pub refusals: u32,
    /// Whether it is a part of a request that was refused too often: it gets one attempt.
    pub split: bool,
}

/// What follows from an attempt, for the batches in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are delivered.
    Forwarded,
    /// They will never be delivered: dropped as `forward_failed`.
    Failed,
    /// Try the same request again after a backoff; the link works.
    Again,
    /// Send each of them alone, so that one which cannot be delivered costs itself only.
    Split,
    /// Back to the buffer until there is a link again.
    Return {
        /// The control plane may have handled them.
        ambiguous: bool,
    },
}

/// Decides what follows from `outcome`.
pub fn verdict(outcome: &Outcome, attempt: Attempt, delivery: Delivery) -> Verdict {
    match outcome {
        Outcome::Accepted(_) => Verdict::Forwarded,
        Outcome::Rejected(_) => Verdict::Failed,
        Outcome::Refused(_) if attempt.split => Verdict::Failed,
        Outcome::Refused(_) if attempt.refusals + 1 < MAX_REFUSALS => Verdict::Again,
        Outcome::Refused(_) if attempt.batches > 1 => Verdict::Split,
        Outcome::Refused(_) => Verdict::Failed,
        Outcome::Retry(_) => Verdict::Return { ambiguous: false },
        Outcome::Ambiguous(_) => match delivery {
            Delivery::AtLeastOnce => Verdict::Return { ambiguous: true },
            Delivery::AtMostOnce => Verdict::Failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MERGED: Attempt = Attempt {
        batches: 5,
        refusals: 0,
        split: false,
    };
    const ALONE: Attempt = Attempt {
        batches: 1,
        refusals: 0,
        split: false,
    };
    const PART: Attempt = Attempt {
        batches: 1,
        refusals: 0,
        split: true,
    };

    fn at_least_once(outcome: Outcome, attempt: Attempt) -> Verdict {
        verdict(&outcome, attempt, Delivery::AtLeastOnce)
    }

    fn refused() -> Outcome {
        Outcome::Refused("boom".into())
    }

    #[test]
    fn a_message_reply_is_a_delivery() {
        for attempt in [MERGED, ALONE, PART] {
            assert_eq!(
                at_least_once(Outcome::Accepted(Bytes::new()), attempt),
                Verdict::Forwarded
            );
        }
    }

    #[test]
    fn a_method_that_does_not_exist_fails_at_once() {
        for attempt in [MERGED, ALONE, PART] {
            let rejected = Outcome::Rejected("unimplemented".into());
            assert_eq!(at_least_once(rejected, attempt), Verdict::Failed);
        }
    }

    #[test]
    fn a_refused_request_is_tried_three_times_then_split() {
        for refusals in 0..MAX_REFUSALS - 1 {
            let attempt = Attempt { refusals, ..MERGED };
            assert_eq!(at_least_once(refused(), attempt), Verdict::Again);
        }
        let last = Attempt {
            refusals: MAX_REFUSALS - 1,
            ..MERGED
        };
        assert_eq!(at_least_once(refused(), last), Verdict::Split);
    }

    #[test]
    fn a_refused_batch_costs_itself() {
        let last = Attempt {
            refusals: MAX_REFUSALS - 1,
            ..ALONE
        };
        assert_eq!(at_least_once(refused(), ALONE), Verdict::Again);
        assert_eq!(at_least_once(refused(), last), Verdict::Failed);
        assert_eq!(at_least_once(refused(), PART), Verdict::Failed);
    }

    #[test]
    fn what_was_not_written_waits_for_a_link() {
        for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
            let retry = Outcome::Retry("dial failed".into());
            assert_eq!(
                verdict(&retry, MERGED, delivery),
                Verdict::Return { ambiguous: false }
            );
        }
    }

    #[test]
    fn what_may_have_been_handled_follows_the_chosen_delivery() {
        let lost = Outcome::Ambiguous("connection lost".into());
        assert_eq!(
            at_least_once(lost.clone(), MERGED),
            Verdict::Return { ambiguous: true }
        );
        assert_eq!(
            verdict(&lost, MERGED, Delivery::AtMostOnce),
            Verdict::Failed
        );
    }
}
