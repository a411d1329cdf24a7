//! A cell against the same without provfs.

use crate::{
    figures::{Cell, Figures},
    report::BASELINE,
};

/// A row of a table: one operation on one file system.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) fs: &'a str,
}

/// Rows in the order in which they were measured first.
pub(crate) fn rows(figures: &Figures) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for cell in figures.cells() {
        if !rows
            .iter()
            .any(|row| row.name == cell.row && row.fs == cell.fs)
        {
            rows.push(Row {
                name: &cell.row,
                fs: &cell.fs,
            });
        }
    }
    rows
}

/// A cell of a row that can be relied on.
pub(crate) fn settled<'a>(
    figures: &'a Figures,
    row: &str,
    fs: &str,
    config: &str,
) -> Option<&'a Cell> {
    figures
        .cell(row, fs, config)
        .filter(|cell| cell.total.is_settled())
}

/// What a configuration takes, as a multiple of what it takes without.
pub(crate) fn ratio(figures: &Figures, row: &str, fs: &str, config: &str) -> Option<f64> {
    let base = settled(figures, row, fs, BASELINE)?.total.value;
    let value = settled(figures, row, fs, config)?.total.value;
    (base > 0.0).then_some(value / base)
}
