//! Runs each test in a process of its own, and prints what came of it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::MemfdFlags,
    process::{Pid, PidfdFlags, Signal, getuid, kill_process_group, pidfd_open},
};

use crate::{
    TESTS,
    fixture::{self, Before, Counters, Fs, Level, On, Outcome, Place, Stop, Test},
    kernel_log::KernelLog,
};

/// Introduces the name of the test that a process is for.
pub(crate) const ONE: &str = "--one";

/// Status of a test that says that it cannot be done here.
const SKIPPED: u8 = 77;

/// How long a test may take. The slowest take half a minute on a debug kernel without KVM.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was asked for.
#[derive(Default)]
pub(crate) struct Options {
    /// Print the names only.
    pub(crate) list: bool,
    /// How many rounds.
    pub(crate) level: Option<Level>,
    /// What names have to contain, one of these.
    pub(crate) filters: Vec<String>,
    /// Be the process for this test.
    pub(crate) one: Option<String>,
}

/// A test on a file system.
struct Case {
    name: String,
    test: &'static Test,
    fs: Fs,
    /// Whether records are packed meanwhile.
    packed: bool,
}

/// What is about records, in whatever format.
const BOTH_FORMATS: &[&str] = &["write", "create", "ways", "history"];

/// What is about the locks of each file system.
const ALL_FILE_SYSTEMS: &[&str] = &["locks", "races", "faults"];

/// What is about programs rather than the kernel, and says nothing more on one that looks for mistakes.
const PROGRAMS_ONLY: &[&str] = &["programs", "tools"];

fn cases(level: Level) -> Vec<Case> {
    let quick = level == Level::Quick;
    let mut cases = Vec::new();
    let mut turn = 0;
    for (topic, tests) in TESTS {
        if quick && fixture::is_debug_kernel() && PROGRAMS_ONLY.contains(topic) {
            continue;
        }
        for test in *tests {
            match test.on {
                On::Any => {
                    let fs = Fs::ALL
                        .into_iter()
                        .find(|fs| fs.is_mounted())
                        .unwrap_or(Fs::Ext4);
                    cases.push(Case {
                        name: format!("{topic}: {}", test.name),
                        test,
                        fs,
                        packed: false,
                    });
                }
                On::Each(list) => {
                    // When time is short, file systems take turns, but where it is about their locks.
                    let all = !quick || ALL_FILE_SYSTEMS.contains(topic);
                    let some = if all {
                        list
                    } else {
                        &list[turn % list.len()..][..1]
                    };
                    turn += 1;
                    cases.extend(some.iter().map(|&fs| Case {
                        name: format!("{topic}: {} ({fs})", test.name),
                        test,
                        fs,
                        packed: false,
                    }));
                    if !quick && BOTH_FORMATS.contains(topic) {
                        let packed = match level {
                            Level::Full => list,
                            _ => &list[turn % list.len()..][..1],
                        };
                        cases.extend(packed.iter().map(|&fs| Case {
                            name: format!("{topic}: {} ({fs}, packed)", test.name),
                            test,
                            fs,
                            packed: true,
                        }));
                    }
                }
            }
        }
    }
    cases
}

/// Does what was asked for.
pub(crate) fn run(options: &Options) -> ExitCode {
    let level = options.level.unwrap_or_else(usual_level);
    let mut cases = cases(level);
    if let Some(name) = &options.one {
        return match cases.iter().find(|case| case.name == *name) {
            Some(case) => be(case, level),
            None => ExitCode::from(2),
        };
    }

    let wanted = |name: &str| options.filters.iter().any(|text| name.contains(text));
    cases.retain(|case| options.filters.is_empty() || wanted(&case.name));
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    }
    if !getuid().is_root() {
        println!("Bail out! this changes settings of the kernel, and wants to be root in a guest");
        return ExitCode::FAILURE;
    }
    if let Err(error) = fixture::prepare() {
        println!("Bail out! {error:?}");
        return ExitCode::FAILURE;
    }

    // Two more are made of the whole run.
    println!("1..{}", cases.len() + 2);
    let log = match KernelLog::from_now() {
        Ok(log) => log,
        Err(error) => {
            println!("Bail out! cannot read the kernel log: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for (index, case) in cases.iter().enumerate() {
        let start = Instant::now();
        let verdict = if case.fs.is_mounted() {
            run_one(case, level)
                .unwrap_or_else(|error| Verdict::failed(format!("cannot run it: {error}\n")))
                .and(log.check())
        } else {
            Verdict::Skipped(format!("no {} at {}", case.fs, case.fs.root().display()))
        };
        failed += u32::from(verdict.print(index + 1, &case.name, Some(start.elapsed())));
    }

    let sum = Counters::now().and_then(|counters| counters.check_sum());
    failed += u32::from(Verdict::of(sum).print(
        cases.len() + 1,
        "all: the counters add up after all tests",
        None,
    ));
    failed += u32::from(Verdict::of(log.check()).print(
        cases.len() + 2,
        "all: the kernel log is clean after the last test, too",
        None,
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How many rounds there are unless somebody says so.
fn usual_level() -> Level {
    let asked = std::env::var("PROVFS_TEST_LEVEL").ok();
    match asked.as_deref().and_then(Level::named) {
        Some(Level::Normal) | None if fixture::is_debug_kernel() => Level::Quick,
        asked => asked.unwrap_or_default(),
    }
}

/// What came of a test.
enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Verdict {
    fn failed(why: String) -> Self {
        Verdict::Failed(why)
    }

    fn of(outcome: Outcome) -> Self {
        match outcome {
            Ok(()) => Verdict::Passed,
            Err(Stop::Skipped(why)) => Verdict::Skipped(why),
            Err(Stop::Failed(why)) => Verdict::Failed(why),
        }
    }

    /// This, and what came of something that belongs to it.
    fn and(self, outcome: Outcome) -> Self {
        match (self, outcome) {
            (Verdict::Failed(why), Err(Stop::Failed(more))) => Verdict::Failed(why + "\n" + &more),
            (_, Err(Stop::Failed(why))) => Verdict::Failed(why),
            (verdict, _) => verdict,
        }
    }

    /// Prints it as TAP and returns whether it is a failure.
    fn print(&self, number: usize, name: &str, took: Option<Duration>) -> bool {
        let took = took
            .map(|took| format!(" # {:.1} s", took.as_secs_f64()))
            .unwrap_or_default();
        match self {
            Verdict::Passed => println!("ok {number} - {name}{took}"),
            Verdict::Skipped(why) => println!("ok {number} - {name} # SKIP {}", why.trim()),
            Verdict::Failed(why) => {
                println!("not ok {number} - {name}{took}");
                why.lines().for_each(|line| println!("    {line}"));
            }
        }
        let _ = io::stdout().flush();
        matches!(self, Verdict::Failed(_))
    }
}

/// Runs a test in a process of its own, and puts everything back that it may have left behind.
fn run_one(case: &Case, level: Level) -> io::Result<Verdict> {
    let before = Before::now();
    if case.packed {
        fixture::write_setting("format", b"packed")?;
    }
    let mut output = File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?);
    let mut command = Command::new(fixture::program(fixture::OWN));
    command
        .args([ONE, &case.name])
        .arg(format!("--{level}"))
        .process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    let mut child = command.spawn()?;
    let group = Pid::from_child(&child);
    let patience = match level {
        Level::Full => PATIENCE * 10,
        _ => PATIENCE,
    };
    let in_time = has_ended(&child, patience)?;
    // What it started must not go on while the next test counts.
    let _ = kill_process_group(group, Signal::KILL);
    fixture::restore(&before, case.fs);
    let status = child.wait()?;

    let mut text = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(match status.code() {
        Some(0) => Verdict::Passed,
        Some(code) if code == i32::from(SKIPPED) => Verdict::Skipped(text),
        _ if !in_time => Verdict::failed(format!("{text}not done after {} s", patience.as_secs())),
        _ => Verdict::failed(format!("{text}{status}")),
    })
}

fn has_ended(child: &Child, patience: Duration) -> io::Result<bool> {
    let pidfd: OwnedFd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout))? > 0)
}

/// Is the process of a test.
fn be(case: &Case, level: Level) -> ExitCode {
    let outcome = Place::fresh(case.fs, level).and_then(|place| {
        let outcome = (case.test.run)(&place);
        let _ = std::env::set_current_dir("/");
        let _ = fs::remove_dir_all(&place.dir);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Skipped(why)) => {
            println!("{why}");
            ExitCode::from(SKIPPED)
        }
        Err(Stop::Failed(why)) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
