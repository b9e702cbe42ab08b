//! Tests of a mapping on its own: bounds, freed memory, and concurrent use.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const PAGE: usize = 4096;

fn transfer(
    mapping: &Mapping,
    operation: Operation,
    position: u64,
    buffers: &mut [&mut [u8]],
) -> usize {
    let vectors: Vec<iovec> = buffers
        .iter_mut()
        .map(|buffer| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    // SAFETY: the buffers are borrowed for the whole call.
    unsafe { mapping.transfer(operation, position, &vectors) }
}

fn read(mapping: &Mapping, position: u64, bytes: usize) -> Vec<u8> {
    let mut into = vec![0xee; bytes];
    let moved = transfer(mapping, Operation::Read, position, &mut [&mut into]);
    assert!(into[moved..].iter().all(|&byte| byte == 0xee), "past the end nothing is touched");
    into.truncate(moved);
    into
}

fn write(mapping: &Mapping, position: u64, fill: u8, bytes: usize) -> usize {
    transfer(mapping, Operation::Write, position, &mut [&mut vec![fill; bytes]])
}

/// Number of pages that take memory.
fn resident(mapping: &Mapping) -> usize {
    let extent = mapping.extent();
    let bytes = whole_pages(extent.length).unwrap();
    let mut pages = vec![0u8; bytes / PAGE];
    // SAFETY: the bytes stay mapped while `extent` is held, and `pages` has a byte for each page.
    assert_eq!(unsafe { libc::mincore(extent.base.as_ptr(), bytes, pages.as_mut_ptr()) }, 0);
    pages.iter().filter(|&&page| page & 1 == 1).count()
}

#[test]
fn a_transfer_past_the_end_is_short() {
    let mapping = Mapping::new(5000).unwrap();
    assert_eq!(
        transfer(
            &mapping,
            Operation::Write,
            4000,
            &mut [&mut [1; 500], &mut [2; 400], &mut [3; 400], &mut [4; 9]]
        ),
        1000
    );
    assert_eq!(read(&mapping, 4499, 9999), [vec![1], vec![2; 400], vec![3; 100]].concat());
    for position in [5000, 5001, 1 << 40, u64::MAX] {
        assert_eq!((read(&mapping, position, 9).len(), write(&mapping, position, 7, 9)), (0, 0));
    }
    assert_eq!(read(&mapping, 0, 4000), [0; 4000]);
}

#[test]
fn bytes_past_the_end_stay_zero_in_the_last_page() {
    let mapping = Mapping::new(5000).unwrap();
    write(&mapping, 4990, 7, 100);
    mapping.resize(6000).unwrap();
    assert_eq!(read(&mapping, 4990, 99), [vec![7; 10], vec![0; 89]].concat());
    mapping.resize(4995).unwrap();
    mapping.resize(20_000).unwrap();
    assert_eq!(
        read(&mapping, 4990, 9),
        [7, 7, 7, 7, 7, 0, 0, 0, 0],
        "what was cut doesn't come back"
    );
}

#[test]
fn zeros_any_range_and_frees_its_whole_pages() {
    let length = 4 * PAGE as u64 + 100;
    for (from, to) in [
        (0, 1),
        (1, 4096),
        (4095, 4097),
        (4096, 8192),
        (100, 16_000),
        (5000, 8192),
        (0, length),
        (9000, 1 << 50),
        (16_300, length),
        (length, length),
    ] {
        let mapping = Mapping::new(length).unwrap();
        write(&mapping, 0, 7, length as usize);
        assert_eq!(resident(&mapping), 5);
        mapping.zero(from, to - from);
        let zero = from as usize..to.min(length) as usize;
        let expected: Vec<u8> =
            (0..length as usize).map(|at| if zero.contains(&at) { 0 } else { 7 }).collect();
        assert_eq!(
            resident(&mapping),
            5 - (zero.end / PAGE).saturating_sub(zero.start.div_ceil(PAGE))
        );
        assert_eq!(read(&mapping, 0, length as usize), expected);
    }
}

#[test]
fn takes_memory_for_written_pages_and_frees_it_when_truncated() {
    let mapping = Mapping::new(1 << 40).unwrap();
    assert_eq!(read(&mapping, 1 << 39, 3), [0; 3]);
    write(&mapping, (1 << 40) - 2, 9, 9);
    mapping.resize(64 * PAGE as u64).unwrap();
    write(&mapping, 5000, 7, 3 * PAGE);
    assert_eq!(resident(&mapping), 4);
    mapping.resize(2 * PAGE as u64).unwrap();
    assert_eq!(resident(&mapping), 1);
    assert_eq!(Mapping::new(u64::MAX).err(), Some(Errno::NOMEM));
    assert!(mapping.resize(1 << 60).is_err());
    assert_eq!(read(&mapping, 4999, 9), [0, 7, 7, 7, 7, 7, 7, 7, 7], "as it was");
}

/// The mapping shrinks, grows and moves while other threads copy: no copy may touch unmapped
/// memory.
#[test]
fn is_resized_while_other_threads_copy() {
    const PART: usize = 64 * PAGE;
    let mapping = Mapping::new(4 * PART as u64).unwrap();
    let copied = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for fill in 1..3u8 {
            let (mapping, copied) = (&mapping, &copied);
            scope.spawn(move || {
                let mut at = 0;
                while copied.fetch_add(1, Ordering::Relaxed) < 300 {
                    at = (at + 7 * PAGE as u64) % (4 * PART as u64);
                    write(mapping, at, fill, PART);
                    assert!(read(mapping, at, PART).iter().all(|&byte| byte < 3));
                    mapping.zero(at, 3 * PAGE as u64);
                }
            });
        }
        let mut round = 0;
        while copied.load(Ordering::Relaxed) < 300 {
            round += 1;
            // In some rounds a neighbour keeps the mapping from growing in place, so that it moves.
            let _neighbour = Mapping::new(1 + round % 7 * 9000).unwrap();
            mapping.resize(1 + round * 4321 * 97 % (8 * PART as u64)).unwrap();
        }
    });
}

#[test]
fn zeros_a_range_longer_than_one_piece() {
    let mapping = Mapping::new(2 * ZEROED_AT_ONCE + 9000).unwrap();
    let (first, second) = (ZEROED_AT_ONCE - 5000, 2 * ZEROED_AT_ONCE - 5000);
    for at in [first, second] {
        write(&mapping, at, 7, 10_000);
    }
    mapping.zero(first + 1, second + 9998 - first);
    assert_eq!(resident(&mapping), 2, "the pages at both ends");
    assert_eq!(read(&mapping, first, 10_000), [vec![7], vec![0; 9999]].concat());
    assert_eq!(read(&mapping, second, 10_000), [vec![0; 9999], vec![7]].concat());
}
