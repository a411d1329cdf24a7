//! The command line. It depends on nothing but clap, because the generator of man pages and
//! completions (`xtask`) compiles this file too.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

const LONG_ABOUT: &str = "\
Shows, changes, checks and keeps the settings of the provfs security module.

Settings are those of /proc/sys/provfs. A change is in force at once and until the next boot; \
'persist' keeps it for later boots in /etc/provfs.toml, which provfs-config.service applies with \
'reload'. A change that is refused, by this program or by the kernel, leaves everything as it was.";

const AFTER_HELP: &str = "\
Exit status:
  0  done, or the answer is yes
  1  the answer is no: nothing is there, something differs, is skipped or has a mistake
  2  it could not be done, or the command line was wrong; what could be had was printed

Examples:
  provfs-config add skip /srv/build '*.swp' '!/srv/build/releases'
  provfs-config test ~/project/src/main.rs
  provfs-config set enabled=0
  provfs-config persist
  provfs-config doctor

Files:
  /proc/sys/provfs/*                     the settings in force
  /sys/kernel/security/provfs/status     counters
  /etc/provfs.toml                       settings for the next boot
  /etc/sysctl.d/60-provfs.conf           the same, as sysctl.d has it";

/// Shows, changes, checks and keeps the settings of the provfs security module.
#[derive(Debug, Parser)]
#[command(name = "provfs-config", version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print one JSON document: {"schema": 1, "command": ..., ...}
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Take /proc, /sys, /etc, /run, /dev and /boot from below this directory. For tests
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        default_value = "/"
    )]
    pub(crate) root: PathBuf,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print settings that are in force
    ///
    /// One name prints the value alone; several, or none for all, print NAME = VALUE.
    ///
    /// Exit status: 0, or 1 if the running kernel lacks one of the settings.
    Get {
        /// The settings, such as skip or provfs.skip; all of them without any
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },

    /// Change settings, all of them or none
    Set {
        /// What to change, such as enabled=0
        #[arg(value_name = "NAME=VALUE", required = true)]
        assignments: Vec<OsString>,
        #[command(flatten)]
        how: How,
    },

    /// Print all settings: running, default and persisted side by side
    List,

    /// Print what differs between the running and the persisted settings
    ///
    /// Exit status: 0 if nothing differs, 1 if something does.
    Diff,

    /// Add rules at the end of the skip list, where they have the last word
    ///
    /// A rule that is in the list already stays where it is.
    Add {
        /// The list
        list: List,
        /// Rules, such as /srv/build, node_modules, '*.swp', fs:tmpfs, comm:rsync, uid:0, '!/srv/www'
        #[arg(value_name = "RULE", required = true)]
        rules: Vec<OsString>,
        #[command(flatten)]
        how: How,
    },

    /// Remove rules from the skip list
    ///
    /// Exit status: 0, or 1 if one of them is not in the list; then nothing changes.
    Remove {
        /// The list
        list: List,
        /// Rules as they are in the list
        #[arg(value_name = "RULE", required = true)]
        rules: Vec<OsString>,
        #[command(flatten)]
        how: How,
    },

    /// Say whether files would be recorded, which rule decides, and why
    ///
    /// A file need not exist. Symbolic links are followed, as the kernel does before it looks.
    ///
    /// Exit status: 0 if each one is recorded, 1 if one is not.
    Test {
        /// The files
        #[arg(value_name = "PATH", required = true)]
        paths: Vec<PathBuf>,
        /// Who writes: a user id; without it, your own
        #[arg(long, value_name = "UID")]
        uid: Option<u32>,
        /// What writes: the name of a program; without it, rules about programs are left out
        #[arg(long, value_name = "COMM")]
        comm: Option<OsString>,
        /// Ask the rules in FILE (a list of rules, a .toml or a .conf; - is standard input) and not those in force
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
    },

    /// Check a file of rules or settings without applying it
    ///
    /// A file that ends in .toml is read like /etc/provfs.toml, one that ends in .conf as sysctl.d
    /// has it, and any other as a skip list: rules separated by commas or newlines.
    ///
    /// Exit status: 0 if it is right, 1 if it has a mistake.
    Check {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },

    /// Apply the persisted settings
    ///
    /// Settings that are not persisted stay as they are. Exit status: 0, or 1 if nothing is
    /// persisted.
    Reload {
        #[command(flatten)]
        how: How,
    },

    /// Keep the running settings for the next boot
    ///
    /// Without NAMEs, those that are not the default, and those that are persisted already. Other
    /// settings in /etc/provfs.toml, its comments and its order stay as they are.
    Persist {
        /// The settings to keep
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Write /etc/sysctl.d/60-provfs.conf instead of /etc/provfs.toml
        #[arg(long)]
        sysctl_d: bool,
        /// Say what would be written, and write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },

    /// Set running settings back to their defaults
    Reset {
        /// The settings; all of them without any
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        how: How,
    },

    /// Print what became of every modification since boot
    Status {
        /// Look again after so many seconds, and print how much was added per second
        #[arg(short, long, value_name = "SECONDS", value_parser = parse_interval)]
        interval: Option<Duration>,
    },

    /// Look for what keeps provfs from recording, and say what to do
    ///
    /// Exit status: 0 if nothing is wrong, 1 if something is.
    Doctor,
}

/// How to make a change.
#[derive(Clone, Copy, Debug, ClapArgs)]
pub(crate) struct How {
    /// Say what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Let the kernel alone judge the values: for a kernel that is newer than this program
    #[arg(long)]
    pub(crate) unchecked: bool,
}

/// Lists that can be added to.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum List {
    /// What is not recorded
    Skip,
}

/// Reads a number of seconds: more than none, and at most a day.
fn parse_interval(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| (0.001..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "a number of seconds is wanted, from 0.001 to 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn intervals_are_finite_and_positive() {
        assert_eq!(parse_interval("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["", "x", "0", "-1", "inf", "NaN", "86401", "1e300"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
