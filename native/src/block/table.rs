//! Tables shared by JavaScript and the engine: columns in the engine's memory. JavaScript sees each
//! table as one ArrayBuffer. index.d.ts gives the order of the columns.
//!
//! JavaScript may write anything to a table at any time, from another thread too. So the engine
//! reads each field once per job, as a plain number, and checks the value afterwards.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::errors::{Result, failure};

/// One field of all rows, stored consecutively.
struct Column<T> {
    first: *mut T,
    length: u32,
}

impl<T: Copy> Column<T> {
    fn get(&self, at: u32) -> Option<T> {
        // SAFETY: `at` is inside the column, whose memory lives as long as its table. Every bit
        // pattern is a number.
        (at < self.length).then(|| unsafe { self.first.add(at as usize).read_volatile() })
    }

    fn set(&self, at: u32, value: T) {
        if at < self.length {
            // SAFETY: as in `get`.
            unsafe { self.first.add(at as usize).write_volatile(value) }
        }
    }
}

/// A job as JavaScript describes it. None of the fields has been checked.
#[derive(Clone, Copy)]
pub struct Row {
    /// Offset in the file, in bytes.
    pub position: f64,
    /// Length in bytes, for operations without data.
    pub length: f64,
    /// The number that `open` returned.
    pub file: u32,
    /// Index of the job's first vector.
    pub first: u32,
    /// Number of vectors.
    pub count: u32,
    /// See `Operation`.
    pub operation: u8,
}

/// The jobs of one table and their vectors.
pub struct Table {
    memory: Memory,
    position: Column<f64>,
    length: Column<f64>,
    file: Column<u32>,
    first: Column<u32>,
    count: Column<u32>,
    result: Column<i32>,
    list: Column<u32>,
    offset: Column<u32>,
    bytes: Column<u32>,
    operation: Column<u8>,
}

/// The done list: numbers of the jobs that the current wake reports.
pub struct DoneList {
    memory: Memory,
    numbers: Column<u32>,
}

/// Zeroed memory, freed by its last owner. One owner is the ArrayBuffer, which any thread may
/// collect.
struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is accessed only by volatile reads and writes of plain numbers.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for DoneList {}
// SAFETY: as above.
unsafe impl Sync for DoneList {}

/// Memory that can become an ArrayBuffer.
pub trait Shown {
    /// Address of the first byte, and the length. The memory is accessible for as long as `self`
    /// exists.
    fn extent(&self) -> (NonNull<u8>, usize);
}

impl Shown for Table {
    fn extent(&self) -> (NonNull<u8>, usize) {
        self.memory.extent()
    }
}

impl Shown for DoneList {
    fn extent(&self) -> (NonNull<u8>, usize) {
        self.memory.extent()
    }
}

impl Memory {
    /// `size` must not be 0.
    fn new(size: usize) -> Result<Self> {
        let lacking = || failure("ENOMEM", "the table of a block engine");
        let layout = Layout::from_size_align(size, align_of::<f64>()).map_err(|_| lacking())?;
        // SAFETY: the caller vouches that the size isn't 0.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(lacking)?;
        Ok(Self { base, layout })
    }

    fn extent(&self) -> (NonNull<u8>, usize) {
        (self.base, self.layout.size())
    }
}

impl DoneList {
    /// Makes a list with room for `length` numbers, 1 or more.
    pub fn new(length: u32) -> Result<Self> {
        let memory = Memory::new(length as usize * size_of::<u32>())?;
        let numbers = next(&mut memory.base.as_ptr(), length);
        Ok(Self { memory, numbers })
    }

    /// How many numbers the list has room for.
    pub fn room(&self) -> u32 {
        self.numbers.length
    }

    /// Puts a number in place `at`.
    pub fn set(&self, at: u32, number: u32) {
        self.numbers.set(at, number);
    }
}

impl Table {
    /// Makes a table with all fields 0. `jobs` must be 1 or more.
    pub fn new(jobs: u32, vectors: u32) -> Result<Self> {
        let (wide, narrow) = (size_of::<f64>(), size_of::<u32>());
        let memory = Memory::new(
            jobs as usize * (2 * wide + 5 * narrow + 1) + vectors as usize * 2 * narrow,
        )?;
        let mut at = memory.base.as_ptr();
        Ok(Self {
            memory,
            position: next(&mut at, jobs),
            length: next(&mut at, jobs),
            file: next(&mut at, jobs),
            first: next(&mut at, jobs),
            count: next(&mut at, jobs),
            result: next(&mut at, jobs),
            list: next(&mut at, jobs),
            offset: next(&mut at, vectors),
            bytes: next(&mut at, vectors),
            operation: next(&mut at, jobs),
        })
    }

    /// The fields of a job; `None` if there is no such job.
    pub fn row(&self, job: u32) -> Option<Row> {
        Some(Row {
            position: self.position.get(job)?,
            length: self.length.get(job)?,
            file: self.file.get(job)?,
            first: self.first.get(job)?,
            count: self.count.get(job)?,
            operation: self.operation.get(job)?,
        })
    }

    /// Offset and length of a vector in bytes; `None` if there is no such vector.
    pub fn vector(&self, at: u32) -> Option<(u32, u32)> {
        Some((self.offset.get(at)?, self.bytes.get(at)?))
    }

    /// An entry of the list of jobs; `None` past its end.
    pub fn listed(&self, at: u32) -> Option<u32> {
        self.list.get(at)
    }

    /// Sets a job's result.
    pub fn set_result(&self, job: u32, result: i32) {
        self.result.set(job, result);
    }

    /// Sets an entry of the list of jobs.
    pub fn set_listed(&self, at: u32, job: u32) {
        self.list.set(at, job);
    }
}

/// Makes the column that begins at `at`, and moves `at` past it.
fn next<T>(at: &mut *mut u8, length: u32) -> Column<T> {
    let first = at.cast::<T>();
    *at = first.wrapping_add(length as usize).cast();
    Column { first, length }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and every view of it is gone.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_apart_and_bounded() {
        let table = Table::new(3, 5).unwrap();
        let (base, size) = table.extent();
        // The operations are the last column, so they end where the memory ends.
        assert_eq!(table.operation.first.wrapping_add(3), base.as_ptr().wrapping_add(size));
        for job in 0..3 {
            table.position.set(job, f64::from(job));
            table.list.set(job, 100 + job);
            table.result.set(job, -1);
            table.operation.set(job, 7);
        }
        for at in 0..5 {
            table.offset.set(at, at);
            table.bytes.set(at, 50 + at);
        }
        assert_eq!(
            (0..3).map(|job| table.row(job).unwrap().position).collect::<Vec<_>>(),
            [0.0, 1.0, 2.0]
        );
        assert_eq!(table.vector(4), Some((4, 54)));
        assert_eq!((table.row(2).unwrap().operation, table.listed(2)), (7, Some(102)));
        assert!(table.row(3).is_none() && table.vector(5).is_none() && table.listed(3).is_none());
        table.set_listed(3, 9);
        assert_eq!(table.vector(0), Some((0, 50)), "out of bounds is nowhere");
    }
}
