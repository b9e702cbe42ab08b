//! Tables of jobs, shared by JavaScript and the engine. A table's columns lie in the engine's
//! memory, and JavaScript sees each table as one ArrayBuffer. `TableLayout` says where each column
//! is.
//!
//! JavaScript may write anything to a table at any time, from another thread too. So the engine
//! reads each field once per job, as a plain number, and checks the value afterwards.

use std::ptr::NonNull;

use napi_derive::napi;

use crate::columns::{Column, Placement};
use crate::errors::Result;
use crate::shown::{Memory, Shown};

/// The fields of one job as JavaScript describes it. None of them was checked.
#[derive(Clone, Copy)]
pub struct Row {
    /// Offset of the first byte in the file.
    pub position: f64,
    /// Length of the range in bytes, for operations without data.
    pub length: f64,
    /// Number of the file, as `open` returned it.
    pub file: u32,
    /// Index of the job's first vector.
    pub first: u32,
    /// Number of vectors.
    pub count: u32,
    /// Number of the operation; see `Operation`.
    pub operation: u8,
}

/// The jobs of one table and their vectors.
pub struct Table {
    memory: Memory,
    layout: TableLayout,
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

/// Byte offsets of a table's columns; index.d.ts describes them.
#[napi(object)]
#[derive(Clone, Copy)]
pub struct TableLayout {
    /// Offset of the column of this name; see the fields of `Row` for the contents of this and the
    /// next four columns.
    pub position: u32,
    pub length: u32,
    pub file: u32,
    pub first: u32,
    pub count: u32,
    /// Offset of the results of the jobs.
    pub result: u32,
    /// Offset of the list: numbers of the jobs to submit.
    pub list: u32,
    /// Offset of the column with each vector's offset in the engine's memory.
    pub offset: u32,
    /// Offset of the column with each vector's length in bytes.
    pub bytes: u32,
    /// Offset of the operations; see `Row`.
    pub operation: u32,
    /// Length of the table in bytes.
    pub size: u32,
}

impl TableLayout {
    fn new(jobs: u32, vectors: u32) -> Self {
        let mut next = Placement::default();
        Self {
            position: next.column::<f64>(jobs),
            length: next.column::<f64>(jobs),
            file: next.column::<u32>(jobs),
            first: next.column::<u32>(jobs),
            count: next.column::<u32>(jobs),
            result: next.column::<i32>(jobs),
            list: next.column::<u32>(jobs),
            offset: next.column::<u32>(vectors),
            bytes: next.column::<u32>(vectors),
            operation: next.column::<u8>(jobs),
            size: next.size,
        }
    }
}

/// The done list: numbers of the jobs that the current wake reports.
pub struct DoneList {
    memory: Memory,
    numbers: Column<u32>,
}

// SAFETY: the memory is accessed only by volatile reads and writes of plain numbers.
unsafe impl Send for Table {}
// SAFETY: as for `Send`: only volatile reads and writes of plain numbers.
unsafe impl Sync for Table {}
// SAFETY: as for `Table`: only volatile reads and writes of plain numbers.
unsafe impl Send for DoneList {}
// SAFETY: as for `Table`: only volatile reads and writes of plain numbers.
unsafe impl Sync for DoneList {}

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

impl DoneList {
    /// Makes a list with room for `length` numbers, 1 or more.
    pub fn new(length: u32) -> Result<Self> {
        let memory = Memory::new(length as usize * size_of::<u32>())?;
        // SAFETY: the column fills exactly this memory, whose alignment suffices for wider numbers
        // too.
        let numbers = unsafe { Column::new(memory.base(), 0, length) };
        Ok(Self { memory, numbers })
    }

    /// Number of entries that the list has room for.
    pub fn room(&self) -> u32 {
        self.numbers.length()
    }

    /// Sets the number at index `at`.
    pub fn set(&self, at: u32, number: u32) {
        self.numbers.set(at, number);
    }
}

impl Table {
    /// Makes a table with all fields 0. `jobs` must be 1 or more.
    pub fn new(jobs: u32, vectors: u32) -> Result<Self> {
        let layout = TableLayout::new(jobs, vectors);
        let memory = Memory::new(layout.size as usize)?;
        let base = memory.base();
        // SAFETY: the layout's columns don't overlap, are aligned, and fit into memory of its size.
        unsafe {
            Ok(Self {
                memory,
                layout,
                position: Column::new(base, layout.position, jobs),
                length: Column::new(base, layout.length, jobs),
                file: Column::new(base, layout.file, jobs),
                first: Column::new(base, layout.first, jobs),
                count: Column::new(base, layout.count, jobs),
                result: Column::new(base, layout.result, jobs),
                list: Column::new(base, layout.list, jobs),
                offset: Column::new(base, layout.offset, vectors),
                bytes: Column::new(base, layout.bytes, vectors),
                operation: Column::new(base, layout.operation, jobs),
            })
        }
    }

    /// Byte offsets of the columns.
    pub fn layout(&self) -> TableLayout {
        self.layout
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_apart_and_bounded() {
        let table = Table::new(3, 5).unwrap();
        let (_, size) = table.extent();
        let layout = table.layout();
        assert_eq!((layout.size as usize, layout.operation + 3), (size, layout.size));
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
