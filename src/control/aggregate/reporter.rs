//! Who reports.

/// A program that reports metrics of an agent: the agent itself, or another that shares its token.
///
/// Programs of one name are one program: they overwrite one another's series, as do those of different names, and
/// lose them together when one of them is [rebuilt](super::Aggregator::rebuilt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// Place of the agent among those that the aggregator was started with.
    pub(super) agent: u32,
    pub(super) program: u32,
}

impl Reporter {
    /// The program of that name at the agent of that place among those that the aggregator was started with. The
    /// name is the role of the connection, `agent` for the agent itself.
    pub fn new(agent: u32, program: &str) -> Self {
        // FNV-1a. Two names of one hash would lose their series together, until they report again.
        let hash = program.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        Self {
            agent,
            program: hash,
        }
    }
}
