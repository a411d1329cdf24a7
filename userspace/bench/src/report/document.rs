//! `Documentation/performance.md`, made from the figures and nothing else.

use std::{fmt::Write, fs, path::Path};

use crate::{
    error::{Context, Result},
    figures::{Figures, Line, Memory, Point, Space, Writers},
    growth::CURVES,
    jobs::JOBS,
    micro,
    report::{
        BASELINE, CONFIGS, chart,
        compare::{Row, ratio, rows, settled},
        limits::{DEARER_THAN_AUDIT, FLOORS, STAMPING, judge},
        table::{configs, count, show},
    },
    space,
};

const METHOD: &str = "\
## What the figures are

*Guest instructions per operation*: QEMU runs with `-icount shift=0,sleep=off` on one virtual processor, so that guest time
is the number of instructions executed. That repeats on any machine, however busy, which times do not. A figure is the
median of at least three samples, after one that warms up. Samples that differ are repeated, up to eleven of them, and the
closest majority counts; if half its range is more than 1 % of its median, the figure is refused and not shown.

* **All work counts**: of the caller, of kernel threads, of daemons. After the operations everything is written to disk and
  12 ms are left to what runs late; the same without any operation is taken off.
* **Idle time does not count.** A child of the lowest priority keeps the processor busy and counts its turns, which are
  taken off. Interrupts that come meanwhile count, since they are work that somebody caused.
* What was prepared is on a tmpfs, and so is the root of what is executed, with its libraries; addresses are not randomised;
  each row has a directory of its own. Two processes that wait for each other run in turn (`SCHED_FIFO`): what the scheduler
  takes for fair differs from one boot to the next.
* Who writes declares a session of 26 bytes and a tool of 4, so that `keys` are `session`, `tool` and `ts`.
* Before a configuration is measured it has to prove itself: a file is written, and must have its record (or none), or be in
  the log of the daemon.

| configuration | what runs |
|---|---|
| `absent` | `lsm=landlock,yama`: what all others are compared with. It has the code of provfs, auditing and fanotify built in |
| `disabled` | provfs, with `enabled=0` |
| `skipping` | provfs, with a skip rule for the mount point at the end of the default list |
| `packed`, `keys` | provfs, with that format and the default skip list |
| `audit` | no provfs; auditd with one rule, `-a always,exit -F dir=MOUNT -F perm=w`, and its log on a tmpfs |
| `fatrace` | no provfs; `fatrace -c -o FILE`: all events of the mount, and the log on a tmpfs |
| `inotify` | no provfs; `inotifywait -m -r -e close_write -o FILE MOUNT`, which cannot tell who wrote |

## What is not measured

* **Time.** An instruction counts as one, whatever it waits for: caches, memory, other processors, the disk. Ratios of
  instructions are not ratios of times. Copying with `rep movs` takes about 1.3 instructions a byte here, more than in
  hardware, so that operations on much data look less affected than they are.
* **Several processors.** Counting needs a single one; concurrent writers are measured by the clock, which is noisy.
* **Events that peers merge**: fatrace and inotifywait may see several writes to one file as one. The rows with many files
  are the fair ones for them. The logs of peers would cost more on a disk.
* Network file systems, FUSE, and records of more than session, tool and time.
* Differences of less than 0.5 %: by where pages and timers happen to be. In most rows two boots agree within 0.1 %.
* What a stamp does to the caches and the readahead of those who read files later.
";

/// Writes the document, and its charts next to it.
pub(crate) fn write(figures: &Figures, folder: &Path) -> Result {
    let charts = folder.join("performance");
    fs::create_dir_all(&charts).at("make", &charts)?;
    let path = folder.join("performance.md");
    let text = render(figures, &charts)?;
    fs::write(&path, text).at("write", path)
}

fn render(figures: &Figures, charts: &Path) -> Result<String> {
    let kernel = figures.lines.iter().find_map(|line| match line {
        Line::Machine(machine) => Some(machine.kernel.as_str()),
        _ => None,
    });
    let mut text = format!(
        "<!-- Generated from qemu/bench/figures.json: scripts/bench --update. Do not edit. -->\n# What provfs costs\n\n\
         Linux {}. To measure all of this again: `scripts/setup --bench`, then `scripts/bench`. To see whether a change makes\n\
         something slower: `scripts/bench --quick --check`.\n\n",
        kernel.unwrap_or("of an unknown version")
    );
    limits(figures, &mut text);
    against_auditd(figures, &mut text);
    text.push_str(METHOD);
    tables(figures, charts, &mut text)?;
    growth(figures, charts, &mut text)?;
    writers(figures, &mut text);
    on_disk(figures, &mut text);
    in_memory(figures, &mut text);
    notes(figures, &mut text);
    Ok(text)
}

/// Adds a line. A string takes what is written to it.
fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{content}");
}

/// Adds a line of a table.
fn cells<S: AsRef<str>>(text: &mut String, cells: impl IntoIterator<Item = S>) {
    text.push('|');
    for cell in cells {
        let _ = write!(text, " {} |", cell.as_ref());
    }
    text.push('\n');
}

/// Adds the head of a table: the first column is left-aligned.
fn head<S: AsRef<str>>(text: &mut String, first: &str, others: &[S]) {
    cells(
        text,
        std::iter::once(first).chain(others.iter().map(AsRef::as_ref)),
    );
    text.push_str("|---|");
    text.push_str(&"---:|".repeat(others.len()));
    text.push('\n');
}

fn limits(figures: &Figures, text: &mut String) {
    text.push_str("## Limits\n\nOf several file systems the one where it costs most.\n\n");
    head(
        text,
        "operation",
        &[
            "configuration",
            "on",
            "without",
            "with",
            "more",
            "limit",
            "met",
        ],
    );
    let verdicts = judge(figures);
    for verdict in &verdicts {
        let bound = verdict.bound.to_string();
        match &verdict.worst {
            Some(worst) => cells(
                text,
                [
                    verdict.row,
                    verdict.config,
                    worst.fs,
                    &count(worst.base),
                    &count(worst.value),
                    &format!(
                        "{:+.2} % ({:+.0})",
                        (worst.value / worst.base - 1.0) * 100.0,
                        worst.value - worst.base
                    ),
                    &bound,
                    if worst.met { "yes" } else { "**no**" },
                ],
            ),
            None => cells(
                text,
                [
                    verdict.row,
                    verdict.config,
                    "",
                    "",
                    "",
                    "not measured",
                    &bound,
                    "",
                ],
            ),
        }
    }
    text.push('\n');
    let unmet: Vec<_> = verdicts
        .iter()
        .filter_map(|verdict| Some((verdict.row, verdict.worst.as_ref()?)))
        .filter_map(|(row, worst)| (!worst.met).then_some((row, worst.fs)))
        .collect();
    reasons(text, "Why not", FLOORS, &unmet);
}

/// Explains those that something is known of.
fn reasons(text: &mut String, why: &str, known: &[(&str, &str, &str)], rows: &[(&str, &str)]) {
    for (row, fs, reason) in known {
        if rows.contains(&(*row, *fs)) {
            line(text, format_args!("{why} `{row}` on {fs}: {reason}\n"));
        }
    }
}

/// Where both record, that is, where files can be written. Programs that only run, auditd does not
/// tell of either.
fn against_auditd(figures: &Figures, text: &mut String) {
    let value = |row: &Row<'_>, config| {
        let cell = settled(figures, row.name, row.fs, config)?;
        Some(cell.total.value)
    };
    let (mut compared, mut dearer) = (0, Vec::new());
    let rows = rows(figures);
    for row in rows.iter().filter(|row| row.fs != "none") {
        for &config in STAMPING {
            let (Some(provfs), Some(auditd)) = (value(row, config), value(row, "audit")) else {
                continue;
            };
            compared += 1;
            if provfs >= auditd {
                dearer.push((row, config, provfs, auditd));
            }
        }
    }
    if compared == 0 {
        return;
    }
    line(
        text,
        format_args!(
            "## Against auditd\n\nOf {compared} figures of operations on files, provfs costs less than auditd in {}.\n",
            compared - dearer.len()
        ),
    );
    if dearer.is_empty() {
        return;
    }
    head(
        text,
        "operation",
        &["configuration", "on", "auditd", "provfs", "more"],
    );
    for (row, config, provfs, auditd) in &dearer {
        let more = format!("{:+.1} %", (provfs / auditd - 1.0) * 100.0);
        cells(
            text,
            [
                row.name,
                config,
                row.fs,
                &count(*auditd),
                &count(*provfs),
                &more,
            ],
        );
    }
    text.push('\n');
    let dearer: Vec<_> = dearer.iter().map(|(row, ..)| (row.name, row.fs)).collect();
    reasons(text, "Why", DEARER_THAN_AUDIT, &dearer);
}

fn about(row: &str) -> &'static str {
    let micro = micro::without_files()
        .chain(micro::with_files())
        .map(|row| (row.name, row.about));
    let jobs = JOBS.iter().map(|job| (job.name, job.about));
    micro
        .chain(jobs)
        .find(|(name, _)| *name == row)
        .map_or("", |(_, about)| about)
}

fn tables(figures: &Figures, charts: &Path, text: &mut String) -> Result {
    let configs = configs(figures);
    let all = rows(figures);
    let mut places: Vec<&str> = Vec::new();
    for row in &all {
        if !places.contains(&row.fs) {
            places.push(row.fs);
        }
    }
    for fs in places {
        let title = if fs == "none" { "Without files" } else { fs };
        line(text, format_args!("\n## {title}\n"));
        let here: Vec<&Row<'_>> = all.iter().filter(|row| row.fs == fs).collect();
        let compared: Vec<_> = configs
            .iter()
            .copied()
            .filter(|config| *config != BASELINE)
            .collect();
        let bars: Vec<_> = here
            .iter()
            .map(|row| {
                (
                    row.name,
                    compared
                        .iter()
                        .map(|config| ratio(figures, row.name, fs, config))
                        .collect(),
                )
            })
            .collect();
        let chart = format!("{fs}.svg");
        chart::bars(&charts.join(&chart), title, &compared, &bars)?;
        line(text, format_args!("![ratios](performance/{chart})\n"));
        head(text, "operation", &configs);
        for row in here {
            let shown = configs
                .iter()
                .map(|config| show(figures, row.name, fs, config));
            cells(
                text,
                std::iter::once(format!("`{}`: {}", row.name, about(row.name))).chain(shown),
            );
        }
    }
    Ok(())
}

fn growth(figures: &Figures, charts: &Path, text: &mut String) -> Result {
    let points: Vec<&Point> = figures
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Point(point) => Some(point),
            _ => None,
        })
        .collect();
    text.push_str("\n## How cost grows (ext4)\n");
    for curve in CURVES {
        let here: Vec<_> = points
            .iter()
            .copied()
            .filter(|point| point.curve == curve.name)
            .collect();
        if here.is_empty() {
            line(text, format_args!("\n`{}`: not measured.", curve.name));
            continue;
        }
        line(
            text,
            format_args!("\n### {}: {}\n", curve.of, curve.operation),
        );
        let chart = format!("{}.svg", curve.name);
        let configs: Vec<_> = CONFIGS
            .into_iter()
            .filter(|config| here.iter().any(|point| point.config == *config))
            .collect();
        chart::curves(
            &charts.join(&chart),
            curve.operation,
            curve.of,
            &configs,
            &here,
        )?;
        line(text, format_args!("![curve](performance/{chart})\n"));
        head(text, curve.of, &configs);
        for size in curve.sizes {
            let at = |config: &&str| {
                here.iter()
                    .find(|point| point.x == *size && point.config == **config)
            };
            let shown = configs.iter().map(|config| match at(config) {
                Some(point) if point.total.is_settled() => count(point.total.value),
                Some(point) => format!("refused, ±{:.1} %", point.total.spread * 100.0),
                None => String::new(),
            });
            cells(text, std::iter::once(size.to_string()).chain(shown));
        }
    }
    text.push_str("\nA list of skip rules has at most 4,095 bytes: 2,048 rules of a byte each.\n");
    Ok(())
}

fn writers(figures: &Figures, text: &mut String) {
    let all: Vec<&Writers> = figures
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Writers(writers) => Some(writers),
            _ => None,
        })
        .collect();
    if all.is_empty() {
        return;
    }
    text.push_str(
        "\n## Concurrent writers (ext4, by the clock: noisy)\n\nMicroseconds for each of 6,400 files of 4 KiB, created by so many processes on two virtual processors that\nare emulated and not counted; the quickest of seven rounds.\n\n",
    );
    let configs: Vec<_> = CONFIGS
        .into_iter()
        .filter(|config| all.iter().any(|line| line.config == *config))
        .collect();
    head(text, "writers", &configs);
    let mut sizes: Vec<_> = all.iter().map(|line| line.writers).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let at = |config: &str| {
            all.iter()
                .find(|line| line.writers == size && line.config == config)
        };
        let base = at(BASELINE).map(|line| line.micros);
        let shown = configs.iter().map(|config| match (at(config), base) {
            (Some(line), Some(base)) if *config != BASELINE => {
                format!("{:.1} ({:.2})", line.micros, line.micros / base)
            }
            (Some(line), _) => format!("{:.1}", line.micros),
            (None, _) => String::new(),
        });
        cells(text, std::iter::once(size.to_string()).chain(shown));
    }
}

fn on_disk(figures: &Figures, text: &mut String) {
    let all: Vec<&Space> = figures
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Space(space) => Some(space),
            _ => None,
        })
        .collect();
    if all.is_empty() {
        return;
    }
    line(
        text,
        format_args!(
            "\n## Space on disk\n\nKiB that {} files of one byte take, all metadata included, and how much more than without records.\nEqual records may be stored once, so it matters whether the second changes from file to file.\n",
            space::FILES
        ),
    );
    let configs: Vec<_> = CONFIGS
        .into_iter()
        .filter(|config| all.iter().any(|line| line.config == *config))
        .collect();
    head(text, "file system, files written", &configs);
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for line in &all {
        let key = (line.fs.as_str(), line.how.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    for (fs, how) in keys {
        let at = |config: &str| {
            all.iter()
                .find(|line| line.fs == fs && line.how == how && line.config == config)
        };
        let base = at(BASELINE).map(|line| line.bytes);
        let shown = configs.iter().map(|config| match (at(config), base) {
            (Some(line), Some(base)) if *config != BASELINE => {
                format!("{} ({:+})", line.bytes / 1024, (line.bytes - base) / 1024)
            }
            (Some(line), _) => (line.bytes / 1024).to_string(),
            (None, _) => String::new(),
        });
        cells(text, std::iter::once(format!("{fs}, {how}")).chain(shown));
    }
}

fn in_memory(figures: &Figures, text: &mut String) {
    let all: Vec<&Memory> = figures
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Memory(memory) => Some(memory),
            _ => None,
        })
        .collect();
    let bytes = |object: &str, config: &str| {
        all.iter()
            .find(|line| line.object == object && line.config == config)
            .map(|line| line.bytes)
    };
    let mut objects: Vec<&str> = Vec::new();
    for line in &all {
        if !objects.contains(&line.object.as_str()) && bytes(&line.object, "keys").is_some() {
            objects.push(&line.object);
        }
    }
    if objects.is_empty() {
        return;
    }
    text.push_str("\n## Memory\n\nBytes in each object for all security modules together, as the kernel says at boot with `lsm.debug`. For a\nprocess that has executed a program and sleeps: what it takes in caches of the kernel that cannot be given back, the\nidentity included.\n\n");
    head(text, "object", &["without provfs", "with provfs", "provfs"]);
    for object in objects {
        let (without, with) = (bytes(object, BASELINE), bytes(object, "keys"));
        let text_of = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
        let own = without.zip(with).map(|(without, with)| with - without);
        cells(
            text,
            [
                object.to_owned(),
                text_of(without),
                text_of(with),
                text_of(own),
            ],
        );
    }
}

fn notes(figures: &Figures, text: &mut String) {
    let mut notes: Vec<String> = Vec::new();
    for line in &figures.lines {
        if let Line::Note(note) = line {
            notes.push(format!("* `{}`: {}", note.config, note.text));
        }
    }
    if !notes.is_empty() {
        line(
            text,
            format_args!("\n## Left out in this run\n\n{}", notes.join("\n")),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{figures::Note, report::table::tests::figures, statistics::Estimate};

    #[test]
    fn the_document_has_all_parts_and_its_charts_are_there() {
        let mut figures = figures(&[
            ("stat", "ext4", "absent", 1000.0),
            ("stat", "ext4", "keys", 1100.0),
            ("null", "none", "absent", 180.0),
        ]);
        for (x, value) in [(1, 100.0), (64, 200.0)] {
            figures.lines.push(Line::Point(Point {
                curve: "path_depth".to_owned(),
                config: "keys".to_owned(),
                x,
                total: Estimate::of(&[value; 3]).unwrap(),
            }));
        }
        for (config, bytes) in [("absent", 40 << 20), ("keys", 80 << 20)] {
            figures.lines.push(Line::Space(Space {
                fs: "ext4".to_owned(),
                config: config.to_owned(),
                how: "at once".to_owned(),
                bytes,
            }));
            figures.lines.push(Line::Memory(Memory {
                config: config.to_owned(),
                object: "file".to_owned(),
                bytes: bytes >> 20,
            }));
        }
        figures.lines.push(Line::Note(Note {
            config: "packed".to_owned(),
            text: "no such format".to_owned(),
        }));
        let dir = tempfile::tempdir().unwrap();
        write(&figures, dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("performance.md")).unwrap();
        for expected in [
            "| stat | keys | ext4 | 1000 | 1100 | +10.00 % (+100) | +1 % | **no** |",
            "| `stat`: stat(2) | 1000 | 1100 (1.100) |",
            "| 64 | 200 |",
            "| ext4, at once | 40960 | 81920 (+40960) |",
            "| file | 40 | 80 | 40 |",
            "* `packed`: no such format",
            "`history`: not measured.",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        for chart in ["ext4.svg", "none.svg", "path_depth.svg"] {
            let svg = fs::read_to_string(dir.path().join("performance").join(chart)).unwrap();
            assert!(svg.contains("<svg"), "{chart}");
            assert!(text.contains(&format!("performance/{chart}")));
        }
    }

    #[test]
    fn a_limit_that_is_not_met_says_why() {
        let limits_with = |more: f64| {
            let figures = figures(&[
                ("write_stamped", "overlay", "absent", 2000.0),
                ("write_stamped", "overlay", "packed", 2000.0 + more),
            ]);
            let mut text = String::new();
            limits(&figures, &mut text);
            text
        };
        let why = "\n\nWhy not `write_stamped` on overlay: overlayfs";
        assert!(limits_with(28.0).contains(why));
        assert!(!limits_with(15.0).contains(why));
    }

    #[test]
    fn what_costs_more_than_auditd_is_told_with_its_reason() {
        let against_auditd_with = |packed: f64| {
            let figures = figures(&[
                ("sqlite_inserts", "btrfs", "audit", 1000.0),
                ("sqlite_inserts", "btrfs", "packed", packed),
                ("stat", "ext4", "audit", 1000.0),
                ("stat", "ext4", "keys", 900.0),
                ("exec", "none", "audit", 1000.0),
                ("exec", "none", "keys", 1100.0),
            ]);
            let mut text = String::new();
            against_auditd(&figures, &mut text);
            text
        };
        let less = against_auditd_with(999.0);
        assert!(
            less.contains("Of 2 figures") && less.contains("in 2."),
            "{less}"
        );
        assert!(!less.contains('|') && !less.contains("Why"), "{less}");
        let more = against_auditd_with(1015.0);
        assert!(
            more.contains("Of 2 figures") && more.contains("in 1."),
            "{more}"
        );
        assert!(more.contains("| sqlite_inserts | packed | btrfs | 1000 | 1015 | +1.5 % |"));
        assert!(more.contains("\n\nWhy `sqlite_inserts` on btrfs: each"));
    }
}
