//! A column in memory: runs of one value, and texts and lists by number.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::size_of;

use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedRowGroupWriter;

/// Rows that are handed to the library at a time.
const BATCH: usize = 4096;

/// Values of a column, those that follow one another and are equal as one.
#[derive(Debug)]
pub(super) struct Runs<T>(Vec<(Option<T>, u32)>);

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Runs(Vec::new())
    }
}

impl<T: Copy + PartialEq> Runs<T> {
    /// Adds a value for some rows.
    pub(super) fn push(&mut self, value: Option<T>, rows: u32) {
        match self.0.last_mut() {
            Some((last, count)) if *last == value && *count <= u32::MAX - rows => *count += rows,
            _ => self.0.push((value, rows)),
        }
    }

    /// Octets it takes.
    pub(super) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<(Option<T>, u32)>()
    }

    fn rows(&self) -> impl Iterator<Item = Option<T>> + '_ {
        let run = |(value, count): &(Option<T>, u32)| std::iter::repeat_n(*value, *count as usize);
        self.0.iter().flat_map(run)
    }
}

/// The next column of a row group.
pub(super) type Group<'a> = SerializedRowGroupWriter<'a, super::Out>;

/// Writes a column of values.
pub(super) fn values<D: DataType, T: Copy + PartialEq>(
    group: &mut Group<'_>,
    runs: &Runs<T>,
    value: impl Fn(T) -> D::T,
) -> Result<()> {
    let mut column = group.next_column()?.ok_or_else(no_column)?;
    let writer = column.typed::<D>();
    let optional = writer.get_descriptor().max_def_level() > 0;
    let mut values = Vec::with_capacity(BATCH);
    let mut levels = Vec::with_capacity(BATCH);
    let mut rows = runs.rows().peekable();
    while rows.peek().is_some() {
        values.clear();
        levels.clear();
        for row in rows.by_ref().take(BATCH) {
            levels.push(i16::from(row.is_some()));
            values.extend(row.map(&value));
        }
        writer.write_batch(&values, optional.then_some(&levels[..]), None)?;
    }
    column.close()
}

/// Writes a column of a list's elements; `list` gives the elements of a row's list.
pub(super) fn elements<'a, D: DataType, E: 'a>(
    group: &mut Group<'_>,
    runs: &Runs<u32>,
    list: impl Fn(u32) -> &'a [E],
    value: impl Fn(&E) -> D::T,
) -> Result<()> {
    let mut column = group.next_column()?.ok_or_else(no_column)?;
    let writer = column.typed::<D>();
    let (mut values, mut present, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = runs.rows().peekable();
    while rows.peek().is_some() {
        values.clear();
        present.clear();
        repeated.clear();
        for row in rows.by_ref().take(BATCH) {
            let elements = row.map_or(&[][..], &list);
            // An empty list stands there as one element that is not present.
            for nth in 0..elements.len().max(1) {
                present.push(i16::from(!elements.is_empty()));
                repeated.push(i16::from(nth > 0));
            }
            values.extend(elements.iter().map(&value));
        }
        writer.write_batch(&values, Some(&present), Some(&repeated))?;
    }
    column.close()
}

fn no_column() -> ParquetError {
    ParquetError::General("fewer columns in the schema than are written".to_owned())
}

/// Things by number, each kept once.
#[derive(Debug)]
pub(super) struct Interned<K> {
    numbers: HashMap<K, u32>,
    all: Vec<K>,
    memory: usize,
}

impl<K> Default for Interned<K> {
    fn default() -> Self {
        Interned {
            numbers: HashMap::new(),
            all: Vec::new(),
            memory: 0,
        }
    }
}

impl<K: Hash + Eq + Clone> Interned<K> {
    /// The number of a thing; what is new is made by `own`, and takes `size` octets.
    pub(super) fn number<Q>(&mut self, thing: &Q, own: impl Fn(&Q) -> K, size: usize) -> u32
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some(number) = self.numbers.get(thing) {
            return *number;
        }
        // No row group has 2³² rows.
        let number = self.all.len() as u32;
        let owned = own(thing);
        self.all.push(owned.clone());
        self.numbers.insert(owned, number);
        // Twice by its handle, once in the heap, and the map's room.
        self.memory += size + 4 * size_of::<K>();
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&K> {
        self.all.get(number as usize)
    }

    /// Octets it takes, about.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }
}
