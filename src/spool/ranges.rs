//! A set of record numbers, which mostly come in runs.

use std::collections::BTreeMap;
use std::ops::Range;

/// Numbers, as ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Start to end, which is not in it.
    runs: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds a range; an empty one changes nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        while let Some((&before, &until)) = self.runs.range(..=end).next_back()
            && until >= start
        {
            start = start.min(before);
            end = end.max(until);
            self.runs.remove(&before);
        }
        self.runs.insert(start, end);
    }

    /// Whether the number is in it.
    pub fn contains(&self, number: u64) -> bool {
        let run = self.runs.range(..=number).next_back();
        run.is_some_and(|(_, end)| number < *end)
    }

    /// Takes out all numbers below `floor`.
    pub fn remove_below(&mut self, floor: u64) {
        while let Some((&start, &end)) = self.runs.first_key_value()
            && start < floor
        {
            self.runs.remove(&start);
            if end > floor {
                self.runs.insert(floor, end);
            }
        }
    }

    /// How many numbers of this range are in it.
    pub fn count(&self, range: Range<u64>) -> u64 {
        let from = self.runs.range(..=range.start).next_back();
        let from = from.map_or(range.start, |(start, _)| *start);
        let within = self.runs.range(from..range.end.max(from));
        within
            .map(|(start, end)| {
                let (start, end) = ((*start).max(range.start), (*end).min(range.end));
                end.saturating_sub(start)
            })
            .sum()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.runs.iter().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_of_its_numbers(
            added in prop::collection::vec((0..60u64, 0..9u64), 0..30), floor in 0..70u64, asked in (0..70u64, 0..70u64),
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (start, length) in added {
                ranges.insert(start..start + length);
                set.extend(start..start + length);
            }
            let within = set.iter().filter(|number| (asked.0..asked.1).contains(*number));
            prop_assert_eq!(ranges.count(asked.0..asked.1), within.count() as u64);
            ranges.remove_below(floor);
            set.retain(|number| *number >= floor);
            for number in 0..80 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
            }
            let runs: Vec<_> = ranges.iter().collect();
            for pair in runs.windows(2) {
                prop_assert!(pair[0].end < pair[1].start, "they touch: {:?}", runs);
            }
        }
    }
}
