//! Tests of the provfs security module, for a guest that has nothing to lose.
//!
//! Each test is a process of its own with a fresh directory on the file system that it tests, so that it begins with no
//! history, and a test that crashes or hangs takes no other with it. Who writes is played by [actors](actor): the same
//! program again, executed with the environment in question, making the system calls that it is told to make.

mod actor;
mod control;
mod counters;
mod create;
mod environments;
mod faults;
mod fixture;
mod format;
mod history;
mod kernel_log;
mod lock;
mod locks;
mod mapped;
mod mounted;
mod not_a_modification;
mod own;
mod paths;
mod power_cut;
mod programs;
mod protect;
mod races;
mod record;
mod rename;
mod runner;
mod skip;
mod space;
mod tools;
mod ways;
mod who;
mod write;

use std::{env, process::ExitCode};

use fixture::{Level, Test};

/// All tests, in the order in which they run: what everything else relies on comes first.
const TESTS: &[(&str, &[Test])] = &[
    ("control", control::TESTS),
    ("who", who::TESTS),
    ("ways", ways::TESTS),
    ("ways", mapped::TESTS),
    ("write", write::TESTS),
    ("create", create::TESTS),
    ("not a modification", not_a_modification::TESTS),
    ("history", history::TESTS),
    ("history", rename::TESTS),
    ("format", format::TESTS),
    ("protect", protect::TESTS),
    ("self", own::TESTS),
    ("lock", lock::TESTS),
    ("skip", skip::TESTS),
    ("counters", counters::TESTS),
    ("locks", locks::TESTS),
    ("paths", paths::TESTS),
    ("programs", programs::TESTS),
    ("environments", environments::TESTS),
    ("space", space::TESTS),
    ("tools", tools::TESTS),
    ("races", races::TESTS),
    ("faults", faults::TESTS),
];

const USAGE: &str = "\
usage: provfs-guest-tests [--list] [--quick|--normal|--full] [--filter TEXT]...
       provfs-guest-tests --storm DIRECTORY...
       provfs-guest-tests --after-power-cut LOG DIRECTORY...

Tests the provfs security module of the running kernel. Wants to be root, and fresh file systems at /mnt/ext4, /mnt/xfs,
/mnt/btrfs, /mnt/tmpfs and /mnt/overlay; tests of one that is not there are skipped. Changes settings of the kernel: for
guests only. Prints TAP.

  --list         print the names of the tests and stop
  --quick        fewer rounds, and for most tests one file system each; taken for granted on a debug kernel
  --normal       what takes some minutes
  --full         ten times as many rounds and more, and every test in both formats; on a debug kernel, too
                 (PROVFS_TEST_LEVEL=quick, normal or full says the same)
  --filter TEXT  only tests with TEXT in their names; may be given more than once
  --storm        four sessions write to new files in each directory until the power is cut, and each file is named on
                 stdout once it is durable
  --after-power-cut
                 the files that the storm has named in LOG have the records of their writers, and no file has anything
                 else that looks like a record

status: 0 if no test failed, 1 if one did, 2 if the arguments are wrong";

fn main() -> ExitCode {
    let mut options = runner::Options::default();
    let mut args = env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some(actor::ARGUMENT) => return actor::serve(args),
            Some("--list") => options.list = true,
            Some("--quick") => options.level = Some(Level::Quick),
            Some("--normal") => options.level = Some(Level::Normal),
            Some("--full") => options.level = Some(Level::Full),
            Some("--filter") => match args.next().and_then(|text| text.into_string().ok()) {
                Some(text) => options.filters.push(text),
                None => return usage_error("--filter wants a text"),
            },
            Some(runner::ONE) => options.one = args.next().and_then(|name| name.into_string().ok()),
            Some("--storm") => return power_cut::storm(args),
            Some("--after-power-cut") => return power_cut::check(args),
            Some("-h" | "--help") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => return usage_error(&format!("unknown argument: {}", arg.to_string_lossy())),
        }
    }
    runner::run(&options)
}

fn usage_error(what: &str) -> ExitCode {
    eprintln!("provfs-guest-tests: {what}\n{USAGE}");
    ExitCode::from(2)
}
