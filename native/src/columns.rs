//! Tables shared with JavaScript. A table is a piece of memory in which columns of numbers follow
//! each other. The columns' offsets are computed only here; JavaScript asks for them.

use std::ptr::NonNull;

/// One field of all entries of a table, stored consecutively.
pub struct Column<T> {
    first: *mut T,
    length: u32,
}

impl<T: Copy> Column<T> {
    /// Makes the column of `length` elements that begins `offset` bytes after `base`.
    ///
    /// # Safety
    /// The column must be aligned, and every bit pattern must be a valid `T`. The memory must be
    /// accessible for as long as the column is used.
    pub unsafe fn new(base: NonNull<u8>, offset: u32, length: u32) -> Self {
        Self { first: base.as_ptr().wrapping_add(offset as usize).cast(), length }
    }

    /// Reads an element, and only once, because JavaScript may change the element at any time.
    /// `None` past the end.
    pub fn get(&self, at: u32) -> Option<T> {
        // SAFETY: `at` is inside the column, and the caller of `new` vouched for the column.
        (at < self.length).then(|| unsafe { self.first.add(at as usize).read_volatile() })
    }

    /// Sets an element. Does nothing past the end.
    pub fn set(&self, at: u32, value: T) {
        if at < self.length {
            // SAFETY: `at` is inside the column, and the caller of `new` vouched for the column.
            unsafe { self.first.add(at as usize).write_volatile(value) }
        }
    }

    /// Number of elements.
    pub fn length(&self) -> u32 {
        self.length
    }
}

/// Places columns one after another. Wide elements come first, so that all are aligned.
#[derive(Default)]
pub struct Placement {
    /// Bytes placed so far.
    pub size: u32,
}

impl Placement {
    /// Places a column of `length` elements; returns its offset in bytes.
    pub fn column<T>(&mut self, length: u32) -> u32 {
        let offset = self.size;
        self.size += length * size_of::<T>() as u32;
        offset
    }
}
