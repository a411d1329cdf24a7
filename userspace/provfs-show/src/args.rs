//! The command line.

use std::path::PathBuf;

use clap::{ColorChoice, Parser};

const LONG_ABOUT: &str = "\
Shows who wrote a file, through what, when, and who wrote it before.

The provfs security module stamps each file that is modified with the session, tool, turn and \
intent of its writer. The record is in the file itself, so this reads it on any kernel.

Session, tool, turn and intent are what the writer declared. Where it declared no session, what \
the kernel knew is shown: the command and those that it was started from, pid and user.";

const AFTER_HELP: &str = "\
Exit status:
  0  a record was found
  1  no file has a record
  2  a file could not be read, or the command line was wrong; what could be read was printed

Examples:
  provfs-show Makefile
  provfs-show --json src/*.rs | jq -r '.files[] | select(.session.id == \"s1\") | .path'";

/// Shows who wrote a file, through what, when, and who wrote it before.
#[derive(Debug, Parser)]
#[command(version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The files, or folders, to ask
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Print one JSON document
    ///
    /// It is {"schema": 1, "files": [...]}. Values that are not UTF-8 are given in base64, under a
    /// name that ends in _b64.
    #[arg(long)]
    pub(crate) json: bool,

    /// Ask a symbolic link itself, not the file that it leads to
    ///
    /// Linux keeps no user.* attributes for symbolic links, so the answer is always "no record".
    #[arg(short = 'P', long)]
    pub(crate) no_follow: bool,

    /// When to use colors; auto also heeds NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Args;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
