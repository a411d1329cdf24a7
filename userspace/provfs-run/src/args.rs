//! The command line. It depends on nothing but clap, because the generator of man pages and
//! completions (`xtask`) compiles this file too.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::PathBuf};

use clap::{Parser, builder::TypedValueParser};

const LONG_ABOUT: &str = "\
Runs a command that declares who it works for: session, tool, turn and intent.

The declaration is in the environment of the command, where the provfs security module reads it \
when the command is executed, and where what the command starts inherits it. Files that any of \
them modifies are recorded with it. Without provfs the command runs the same.

provfs-run becomes the command: there is no process in between.";

const AFTER_HELP: &str = "\
Exit status:
  that of the command, and
  2    the declaration could not be made, or the command line was wrong; the command was not run
  126  the command was found and could not be executed
  127  the command was not found

Examples:
  provfs-run --session 01KS9ABCDEFGHJKMNPQRSTVWXY --tool Edit --turn 42 -- make
  provfs-run --new-session --intent 'upgrade the parser' -- bash
  provfs-run --new-session --lock -- agent
  provfs-run --clear -- sh -c 'echo by nobody in particular > file'";

/// Runs a command that declares who it works for: session, tool, turn and intent.
#[derive(Debug, Parser)]
#[command(name = "provfs-run", version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The session, any id; at most 256 bytes of it are recorded
    #[arg(short, long, value_name = "ID", value_parser = one_line())]
    pub(crate) session: Option<OsString>,

    /// Make a session of its own, a ULID, and print it on standard error
    #[arg(short = 'S', long, conflicts_with = "session")]
    pub(crate) new_session: bool,

    /// The tool, in place of the names of programs; at most 64 bytes
    #[arg(short, long, value_name = "NAME", value_parser = one_line())]
    pub(crate) tool: Option<OsString>,

    /// The turn of the session; at most 64 bytes
    #[arg(short = 'n', long, value_name = "TURN", value_parser = one_line())]
    pub(crate) turn: Option<OsString>,

    /// What it is for, in a few words; at most 256 bytes
    #[arg(short, long, value_name = "TEXT", value_parser = one_line())]
    pub(crate) intent: Option<OsString>,

    /// Fix the session: neither the command nor what it starts can declare another one
    ///
    /// This takes a kernel with provfs. Without --session and --new-session, it fixes the session
    /// that is declared already.
    #[arg(short, long)]
    pub(crate) lock: bool,

    /// Take away what is declared already, of which this declares nothing
    #[arg(short, long)]
    pub(crate) clear: bool,

    /// Take /proc and /sys from below this directory. For tests
    #[arg(long, hide = true, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// Takes a value that a record can hold as it is: not empty, and no line break in it.
fn one_line() -> impl TypedValueParser<Value = OsString> {
    clap::builder::OsStringValueParser::new().try_map(|value| {
        if value.is_empty() {
            Err("it is empty, which declares nothing; --clear takes a declaration away")
        } else if value.as_bytes().contains(&b'\n') {
            Err("it has a line break in it; write it in one line")
        } else {
            Ok(value)
        }
    })
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
    fn what_is_behind_the_command_is_its_own() {
        let args =
            Args::try_parse_from(["provfs-run", "-s", "x", "ls", "-s", "--lock", "--", "-x"])
                .unwrap();
        assert_eq!(args.command, ["ls", "-s", "--lock", "--", "-x"]);
        assert!(!args.lock);
        let args =
            Args::try_parse_from(["provfs-run", "--clear", "--", "-odd", "--clear"]).unwrap();
        assert_eq!(args.command, ["-odd", "--clear"]);
        for bad in [
            &["--session", ""][..],
            &["--intent", "a\nb"],
            &["-S", "-s", "x"],
            &[],
        ] {
            let words = [
                &["provfs-run"],
                bad,
                &["--"],
                &["true"][..usize::from(!bad.is_empty())],
            ]
            .concat();
            assert!(Args::try_parse_from(words).is_err(), "{bad:?}");
        }
    }
}
