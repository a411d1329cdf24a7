//! Everything that is measured in one boot: one configuration, on some file systems.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    configuration::{Config, Peers, activate, lost, run},
    error::{Context, Result},
    figures::{Cell, Line, Machine, Note, Point},
    growth::CURVES,
    jobs::{JOBS, Job, Site},
    meter::{Meter, Reading},
    micro::{self, Place, Row},
    rewriter::Rewriter,
    space,
    statistics::{Estimate, SAMPLES, SAMPLES_MAX},
};

/// Where what is executed and read lies: on a tmpfs that no configuration looks at.
const STAGE: &str = "/run/provfs-bench-stage";

/// What is wanted.
pub(crate) struct Options {
    /// What is in force.
    pub(crate) config: Config,
    /// File systems: mounted at `/mnt/NAME`.
    pub(crate) fs: Vec<String>,
    /// Parts to be measured.
    pub(crate) parts: Vec<Part>,
    /// Only rows with one of these in their names; all, if there are none.
    pub(crate) only: Vec<String>,
    /// Fewer rows: those of the gate.
    pub(crate) quick: bool,
    /// Unpacked packages of the peers.
    pub(crate) peers: Option<PathBuf>,
    /// What jobs work on.
    pub(crate) inputs: PathBuf,
}

/// A part of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Single operations.
    Micro,
    /// Whole programs.
    Macro,
    /// How cost grows.
    Growth,
    /// Bytes on disk.
    Space,
    /// Bytes in memory; wants `lsm.debug` on the command line of the kernel.
    Memory,
    /// Concurrent writers, by the clock.
    Writers,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    fn wants_row(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }
}

/// Rows of single operations that the gate measures: those that have a limit, and what is next to them.
const QUICK: [&str; 19] = [
    "null",
    "pipe",
    "unix_socket",
    "fork",
    "exec",
    "exec_env_64k",
    "stat",
    "open_close_ro",
    "open_close_rw",
    "read",
    "write_stamped",
    "rewrite_same",
    "rewrite_other",
    "append_reopen",
    "truncate",
    "create_4k",
    "create_unlink",
    "rename",
    "atomic_save",
];

/// Prints a line.
pub(crate) fn emit(line: &Line) -> Result {
    let text = serde_json::to_string(line)
        .map_err(std::io::Error::other)
        .doing("write JSON")?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")
        .and_then(|()| output.flush())
        .doing("write the output")
}

fn note(config: Config, text: String) -> Result {
    emit(&Line::Note(Note {
        config: config.name().to_owned(),
        text,
    }))
}

/// Measures and prints lines.
pub(crate) fn measure(options: &Options) -> Result {
    let release = "/proc/sys/kernel/osrelease";
    let kernel = fs::read_to_string(release)
        .at("read", release)?
        .trim()
        .to_owned();
    emit(&Line::Machine(Machine { kernel }))?;

    let peers = Peers::new(options.peers.clone());
    if let Some(missing) = options.config.missing(&peers) {
        return note(options.config, missing);
    }
    if options.wants(Part::Writers) {
        let mount = mount_of(options.fs.first().map_or("tmpfs", String::as_str));
        let _active = activate(options.config, &mount, &peers)?;
        return crate::writers::measure(options.config, &mount, emit);
    }
    let stage = stage(&options.inputs, options.wants(Part::Macro))?;
    if options.wants(Part::Memory) {
        for memory in space::in_memory(options.config, &peers, &stage.join("programs"))? {
            emit(&Line::Memory(memory))?;
        }
    }
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    Session {
        options,
        programs: stage.join("programs"),
        meter: Meter::new()?,
        other: Rewriter::start()?,
        stage,
        peers,
    }
    .measure()
}

fn mount_of(fs: &str) -> PathBuf {
    Path::new("/mnt").join(fs)
}

/// Copies what jobs work on to where reading it is always the same.
fn stage(inputs: &Path, wanted: bool) -> Result<PathBuf> {
    let stage = Path::new(STAGE);
    fs::create_dir_all(stage.join("programs")).at("make", stage)?;
    if wanted {
        run(Command::new("cp")
            .arg("-rL")
            .arg(inputs)
            .arg(stage.join("inputs")))?;
    }
    Ok(stage.to_owned())
}

struct Session<'a> {
    options: &'a Options,
    meter: Meter,
    other: Rewriter,
    stage: PathBuf,
    programs: PathBuf,
    peers: Peers,
}

impl Session<'_> {
    fn measure(&mut self) -> Result {
        let mut is_first = true;
        for fs in &self.options.fs {
            let mount = mount_of(fs);
            let _active = activate(self.options.config, &mount, &self.peers)?;
            let top = mount.join("bench");
            fs::create_dir(&top).at("make", &top)?;
            self.meter.calibrate()?;
            let empty = self.meter.empty();
            eprintln!(
                "# {fs}: to measure nothing takes {} instructions, {} of them late",
                empty.total,
                empty.total - empty.foreground
            );
            if self.options.wants(Part::Micro) {
                if is_first {
                    self.rows(micro::without_files(), "none", &top)?;
                }
                self.rows(micro::with_files(), fs, &top)?;
            }
            if self.options.wants(Part::Macro) {
                self.jobs(fs, &top)?;
            }
            if self.options.wants(Part::Growth) && is_first {
                self.curves(&top)?;
            }
            if self.options.wants(Part::Space) && fs != "tmpfs" {
                for space in space::on_disk(self.options.config, fs, &top)? {
                    emit(&Line::Space(space))?;
                }
            }
            let lost = lost(self.options.config, &self.peers)?;
            if lost > 0 {
                note(
                    self.options.config,
                    format!("{lost} records were lost on {fs}"),
                )?;
            }
            fs::remove_dir_all(&top).at("delete", top)?;
            is_first = false;
        }
        Ok(())
    }

    fn rows<'r>(&self, rows: impl Iterator<Item = &'r Row>, fs: &str, top: &Path) -> Result {
        for row in rows {
            let wanted = !self.options.quick || QUICK.contains(&row.name);
            if !wanted || !self.options.wants_row(row.name) {
                continue;
            }
            self.cell(row.name, fs, row.ops, || {
                in_directory(top, row.name, |dir| {
                    (row.measure)(&self.place(dir), row.ops)
                })
            })?;
        }
        Ok(())
    }

    fn place<'p>(&'p self, dir: &'p Path) -> Place<'p> {
        Place {
            meter: &self.meter,
            dir,
            programs: &self.programs,
            other: &self.other,
        }
    }

    fn jobs(&self, fs: &str, top: &Path) -> Result {
        for job in JOBS {
            if self.options.quick && !job.quick || !self.options.wants_row(job.name) {
                continue;
            }
            if let Some(missing) = job
                .programs
                .iter()
                .find_map(|program| self.missing(program))
            {
                note(self.options.config, format!("{}: {missing}", job.name))?;
                continue;
            }
            self.job(job, fs, top)?;
        }
        Ok(())
    }

    /// Looks in `PATH` too, other than for daemons.
    fn missing(&self, program: &str) -> Option<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&path).any(|folder| folder.join(program).exists()) {
            return None;
        }
        self.peers.missing(program)
    }

    fn job(&self, job: &Job, fs: &str, top: &Path) -> Result {
        self.cell(job.name, fs, 1, || {
            in_directory(top, job.name, |dir| {
                (job.measure)(&Site {
                    meter: &self.meter,
                    dir,
                    inputs: &self.stage.join("inputs"),
                    peers: &self.peers,
                })
            })
        })
    }

    fn curves(&self, top: &Path) -> Result {
        for curve in CURVES {
            if !(curve.applies)(self.options.config) || !self.options.wants_row(curve.name) {
                continue;
            }
            let mut points = 0;
            for &size in curve.sizes {
                let estimate =
                    in_directory(top, curve.name, |dir| curve.at(&self.place(dir), size))?;
                let Some(total) = estimate else { continue };
                points += 1;
                emit(&Line::Point(Point {
                    curve: curve.name.to_owned(),
                    config: self.options.config.name().to_owned(),
                    x: size,
                    total,
                }))?;
            }
            if points == 0 {
                note(
                    self.options.config,
                    format!("{}: this kernel has no such setting", curve.name),
                )?;
            }
        }
        Ok(())
    }

    fn cell(
        &self,
        row: &str,
        fs: &str,
        ops: u32,
        sample: impl FnMut() -> Result<Reading>,
    ) -> Result {
        let (total, foreground) = estimate(ops, sample)?;
        emit(&Line::Cell(Cell {
            row: row.to_owned(),
            fs: fs.to_owned(),
            config: self.options.config.name().to_owned(),
            ops,
            total,
            foreground,
        }))
    }
}

/// Runs something in a directory that is empty before and gone afterwards.
fn in_directory<T>(top: &Path, name: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let dir = top.join(name);
    fs::create_dir(&dir).at("make", &dir)?;
    let result = work(&dir);
    fs::remove_dir_all(&dir).at("delete", dir)?;
    result
}

/// Takes samples until they agree, or until there are too many. The first one warms up and does not count.
pub(crate) fn estimate(
    ops: u32,
    mut sample: impl FnMut() -> Result<Reading>,
) -> Result<(Estimate, f64)> {
    sample()?;
    let (mut totals, mut foregrounds) = (Vec::new(), Vec::new());
    loop {
        let reading = sample()?;
        // Instructions fit into the 53 bits of a double.
        #[expect(clippy::cast_precision_loss, reason = "2^53 instructions take weeks")]
        let per_op = |count: i64| count as f64 / f64::from(ops);
        totals.push(per_op(reading.total));
        foregrounds.push(per_op(reading.foreground));
        if totals.len() < SAMPLES {
            continue;
        }
        let estimates = Estimate::of(&totals).zip(Estimate::of(&foregrounds));
        if let Some((total, foreground)) = estimates {
            if total.is_settled() || totals.len() == SAMPLES_MAX {
                return Ok((total, foreground.value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(values: &[i64]) -> (Estimate, usize) {
        let mut taken = 0;
        let (estimate, _) = estimate(10, || {
            let value = values[taken.min(values.len() - 1)];
            taken += 1;
            Ok(Reading {
                foreground: value,
                total: value,
            })
        })
        .unwrap();
        (estimate, taken)
    }

    #[test]
    fn the_first_sample_warms_up() {
        let (estimate, taken) = feed(&[99_999, 1000, 1000, 1001]);
        assert_eq!(taken, 4);
        assert!((estimate.value - 100.0).abs() < 1e-9);
    }

    #[test]
    fn more_samples_are_taken_while_they_disagree() {
        let (estimate, taken) = feed(&[0, 1000, 1100, 1001, 1002]);
        assert_eq!((taken, estimate.samples.len()), (5, 4));
        assert!(estimate.is_settled());
    }

    #[test]
    fn it_is_given_up_in_the_end() {
        let values: Vec<i64> = (0..20).map(|turn| 1000 << turn).collect();
        let (estimate, taken) = feed(&values);
        assert_eq!(taken, 1 + SAMPLES_MAX);
        assert!(!estimate.is_settled());
    }

    #[test]
    fn the_rows_of_the_gate_exist() {
        let rows: Vec<_> = micro::without_files()
            .chain(micro::with_files())
            .map(|row| row.name)
            .collect();
        assert!(QUICK.iter().all(|name| rows.contains(name)));
    }
}
