//! Allocator of runs of pages: first fit, neighbouring free runs merge.

use std::collections::BTreeMap;

/// The free pages of an arena.
pub struct Ranges {
    /// Maps the first page of each free run to its number of pages. Adjacent runs are always
    /// merged.
    free: BTreeMap<u32, u32>,
}

impl Ranges {
    /// Makes an allocator whose `pages` pages are all free.
    pub fn new(pages: u32) -> Self {
        Self { free: BTreeMap::from([(0, pages)]) }
    }

    /// Takes `pages` pages, 1 or more, from the first free run that is long enough. Returns the
    /// number of the first page.
    pub fn take(&mut self, pages: u32) -> Option<u32> {
        let (&start, &length) = self.free.iter().find(|&(_, &length)| length >= pages)?;
        self.free.remove(&start);
        if length > pages {
            self.free.insert(start + pages, length - pages);
        }
        Some(start)
    }

    /// Frees a run of pages that was taken.
    pub fn give(&mut self, mut start: u32, mut pages: u32) {
        if let Some(next) = self.free.remove(&(start + pages)) {
            pages += next;
        }
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.free.remove(&before);
            start = before;
            pages += length;
        }
        self.free.insert(start, pages);
    }

    /// Number of pages in the longest free run.
    pub fn longest(&self) -> u32 {
        self.free.values().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_run_that_fits() {
        let mut ranges = Ranges::new(8);
        assert_eq!(ranges.take(2), Some(0));
        assert_eq!(ranges.take(1), Some(2));
        assert_eq!(ranges.take(4), Some(3));
        ranges.give(0, 2);
        assert_eq!(ranges.take(1), Some(0));
        assert_eq!(ranges.take(2), None);
        assert_eq!(ranges.longest(), 1);
    }

    #[test]
    fn merges_with_both_neighbours() {
        let mut ranges = Ranges::new(6);
        for page in 0..6 {
            assert_eq!(ranges.take(1), Some(page));
        }
        for page in [4, 1, 3, 0, 5, 2] {
            ranges.give(page, 1);
        }
        assert_eq!(ranges.free, BTreeMap::from([(0, 6)]));
    }

    /// After any sequence of calls (picked by a linear congruential generator), every page is
    /// either taken exactly once or free.
    #[test]
    fn keeps_a_partition() {
        let mut ranges = Ranges::new(64);
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut random = 1u32;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 {
                let pages = (random >> 16) % 7 + 1;
                if let Some(start) = ranges.take(pages) {
                    taken.push((start, pages));
                }
            } else if !taken.is_empty() {
                let (start, pages) = taken.swap_remove((random >> 16) as usize % taken.len());
                ranges.give(start, pages);
            }
            let mut all: Vec<(u32, u32)> =
                taken.iter().copied().chain(ranges.free.clone()).collect();
            all.sort_unstable();
            let mut next = 0;
            for (start, pages) in all {
                assert_eq!(start, next);
                next = start + pages;
            }
            assert_eq!(next, 64);
        }
    }
}
