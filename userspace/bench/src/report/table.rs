//! Figures as text.

use std::fmt::Write;

use crate::{
    figures::{Figures, Line},
    report::{
        BASELINE, CONFIGS,
        compare::{ratio, rows},
        limits::judge,
    },
};

/// Instructions, in a width that can be compared at a glance.
pub(crate) fn count(value: f64) -> String {
    if value >= 1e8 {
        format!("{:.1}M", value / 1e6)
    } else {
        format!("{value:.0}")
    }
}

/// Configurations that something was measured in.
pub(crate) fn configs(figures: &Figures) -> Vec<&'static str> {
    CONFIGS
        .into_iter()
        .filter(|config| figures.cells().any(|cell| cell.config == *config))
        .collect()
}

/// What a cell shows: instructions, how much that is of the baseline, or why there is nothing to show.
pub(crate) fn show(figures: &Figures, row: &str, fs: &str, config: &str) -> String {
    let Some(cell) = figures.cell(row, fs, config) else {
        return String::new();
    };
    if !cell.total.is_settled() {
        return format!("refused, ±{:.1} %", cell.total.spread * 100.0);
    }
    let value = count(cell.total.value);
    match ratio(figures, row, fs, config).filter(|_| config != BASELINE) {
        Some(ratio) => format!("{value} ({ratio:.3})"),
        None => value,
    }
}

/// Everything as a table for a terminal.
pub(crate) fn render(figures: &Figures) -> String {
    let configs = configs(figures);
    let mut text = format!("{:<16} {:<8}", "operation", "on");
    let line = |text: &mut String, cells: &[String]| {
        for cell in cells {
            // A string takes what is written to it.
            let _ = write!(text, " {cell:>19}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    line(
        &mut text,
        &configs
            .iter()
            .map(|config| (*config).to_owned())
            .collect::<Vec<_>>(),
    );
    for row in rows(figures) {
        let _ = write!(text, "{:<16} {:<8}", row.name, row.fs);
        let cells: Vec<_> = configs
            .iter()
            .map(|config| show(figures, row.name, row.fs, config))
            .collect();
        line(&mut text, &cells);
    }
    let worst = figures
        .cells()
        .filter(|cell| cell.total.is_settled())
        .map(|cell| cell.total.spread)
        .fold(0.0, f64::max);
    let _ = writeln!(
        text,
        "\nguest instructions per operation (ratio to {BASELINE}); largest spread ±{:.2} %",
        worst * 100.0
    );
    limits(figures, &mut text);
    for line in &figures.lines {
        if let Line::Note(note) = line {
            let _ = writeln!(text, "not measured in '{}': {}", note.config, note.text);
        }
    }
    text
}

fn limits(figures: &Figures, text: &mut String) {
    let verdicts = judge(figures);
    if verdicts.iter().all(|verdict| verdict.worst.is_none()) {
        return;
    }
    text.push_str("\nlimits\n");
    for verdict in verdicts {
        let Some(worst) = verdict.worst else { continue };
        let _ = writeln!(
            text,
            "{:<16} {:<8} {:<9} {:>+9.2} % {:>+10.0}   limit {:<17} {}",
            verdict.row,
            worst.fs,
            verdict.config,
            (worst.value / worst.base - 1.0) * 100.0,
            worst.value - worst.base,
            verdict.bound.to_string(),
            if worst.met { "met" } else { "NOT MET" },
        );
    }
}

/// Cells that cannot be reported.
pub(crate) fn refused(figures: &Figures) -> usize {
    figures
        .cells()
        .filter(|cell| !cell.total.is_settled())
        .count()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{figures::Cell, statistics::Estimate};

    /// Figures of which all samples are alike.
    pub(crate) fn figures(cells: &[(&str, &str, &str, f64)]) -> Figures {
        let line = |&(row, fs, config, value): &(&str, &str, &str, f64)| {
            Line::Cell(Cell {
                row: row.to_owned(),
                fs: fs.to_owned(),
                config: config.to_owned(),
                ops: 100,
                total: Estimate::of(&[value; 3]).unwrap(),
                foreground: value,
            })
        };
        Figures::new(cells.iter().map(line).collect())
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_the_ratio() {
        let figures = figures(&[
            ("stat", "ext4", "keys", 1100.0),
            ("stat", "ext4", "absent", 1000.0),
            ("untar_775", "ext4", "absent", 181_348_845.0),
        ]);
        let text = render(&figures);
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["operation", "on", "absent", "keys"]);
        assert_eq!(lines[1], ["stat", "ext4", "1000", "1100", "(1.100)"]);
        assert_eq!(lines[2], ["untar_775", "ext4", "181.3M"]);
        assert!(text.contains("NOT MET"), "{text}");
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let mut figures = figures(&[
            ("stat", "ext4", "absent", 1000.0),
            ("stat", "ext4", "keys", 1000.0),
        ]);
        assert_eq!(refused(&figures), 0);
        let Line::Cell(cell) = &mut figures.lines[1] else {
            panic!()
        };
        cell.total = Estimate::of(&[1000.0, 1100.0, 1200.0]).unwrap();
        assert_eq!(refused(&figures), 1);
        let text = render(&figures);
        assert!(
            text.contains("refused, ±9.1 %") && !text.contains("1.100"),
            "{text}"
        );
    }
}
