//! The command line: what can be said, and its help. What it means for this run is worked out in
//! `question`. This file needs nothing but clap, so that manual page and
//! completions can be made from it.

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgAction, ColorChoice, Parser, ValueEnum};

const LONG_ABOUT: &str = "\
Shows who wrote a file, through what, when, and who wrote it before.

The provfs security module stamps each file that is modified with the session, tool, turn and \
intent of its writer. The record is in the file itself, so this reads it on any kernel.

Session, tool, turn and intent are what the writer declared. Where it declared no session, what \
the kernel knew is shown: the command and those that it was started from, pid and user.

Several filters must all match. With -r, files without a record are passed over unless --all or \
--unstamped asks for them; a file that is named is always answered for, unless a filter says no.";

const AFTER_HELP: &str = "\
Times (--since, --until):
  10m 2h 3d 1w 1h30m     so long ago; s, m, h, d, w or whole words
  now today yesterday    a day is all of it: since its beginning, until its end
  2026-11-21             likewise, a day in the local zone
  2026-11-21 09:12[:33]  local time
  2026-11-21T09:12:33Z   RFC 3339
  @1795252353            unix seconds

Fields of --format, empty where a file has no such thing:
  {path} {session} {tool} {turn} {intent} {history}
  {time} local, {ts} RFC 3339 in UTC, {unix} seconds, {ago} how long ago
  {kind} declared, agent_ns, fallback, legacy, opaque; {format} keys, packed
  {comm} {chain} {pid} {uid} {user} {cwd} {env}   of a writer that declared no session
  {verdict} {mtime} {birth}                       with --verify
  {{ and }} are braces; \\n \\t \\0 \\\\ are escapes

Verdicts of --verify, which compares the record with the times of the file:
  current    the data were last modified when the record was made
  stale      they were modified later, and that was not recorded
  backdated  they carry an earlier time: unpacked or copied with its time, by who is recorded
  copied     the record is older than this file: it came along with a copy, from another file
  ahead      the record is later than anything that happened to the file: a clock went back, or
             somebody made the record
  undated    the record has no time that can be read

Exit status:
  0  a record was found (with --unstamped: a file without one)
  1  nothing was found
  2  a file could not be read, or the command line was wrong; what could be read was printed

Environment:
  PROVFS_PAGER, PAGER  the pager, with arguments; empty or cat for none (default: less)
  NO_COLOR, CLICOLOR_FORCE, TZ

Examples:
  provfs-show Makefile
  provfs-show -rl --session 01KS9A --since yesterday src
  provfs-show -r --group-by session
  provfs-show -r --unstamped -0 | xargs -0 ls -l
  git ls-files | provfs-show --files-from - --tool Edit --format '{path}: {intent}'
  provfs-show -r --ndjson | jq -r 'select(.session.id == \"s1\") | .path'";

/// Shows who wrote a file, through what, when, and who wrote it before.
#[derive(Debug, Parser)]
#[command(version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The files, or folders, to ask; with -r the current folder by default
    #[arg(
        value_name = "FILE",
        required_unless_present_any = ["recursive", "tree", "files_from"]
    )]
    pub(crate) files: Vec<PathBuf>,

    /// Ask what is in folders too
    ///
    /// Names that begin with a dot, and what .gitignore and .ignore files name, are left out, as
    /// by fd and ripgrep; see --hidden and --no-ignore. Other file systems are entered.
    #[arg(short, long, help_heading = "Which files")]
    pub(crate) recursive: bool,

    /// Ask the files whose names are in LIST, a line each; - is the standard input
    #[arg(long, value_name = "LIST", help_heading = "Which files")]
    pub(crate) files_from: Option<PathBuf>,

    /// Names in LIST end with NUL, and so do those printed
    ///
    /// Unless --format or another form is asked for, nothing but names is printed.
    #[arg(short = '0', long = "null", help_heading = "Which files")]
    pub(crate) null: bool,

    /// Only files whose name matches, or, after a !, does not; the last that matches counts
    ///
    /// The globs are those of a .gitignore file: without a slash for names, with one for paths.
    /// What matches is asked even if it is hidden or ignored.
    #[arg(short, long, value_name = "GLOB", help_heading = "Which files")]
    pub(crate) glob: Vec<String>,

    /// Ask hidden files and folders too
    #[arg(short = 'H', long, help_heading = "Which files")]
    pub(crate) hidden: bool,

    /// Ask what .gitignore, .ignore and .git/info/exclude name, too
    #[arg(short = 'I', long, help_heading = "Which files")]
    pub(crate) no_ignore: bool,

    /// The same as --hidden --no-ignore
    #[arg(short, long, help_heading = "Which files")]
    pub(crate) unrestricted: bool,

    /// Stay on the file system of each folder that is named
    #[arg(short = 'x', long, help_heading = "Which files")]
    pub(crate) one_file_system: bool,

    /// Follow symbolic links below folders, too
    #[arg(short = 'L', long, help_heading = "Which files")]
    pub(crate) follow: bool,

    /// Ask a symbolic link itself, not the file that it leads to
    ///
    /// Linux keeps no user.* attributes for symbolic links, so the answer is always "no record".
    #[arg(
        short = 'P',
        long,
        conflicts_with = "follow",
        help_heading = "Which files"
    )]
    pub(crate) no_follow: bool,

    /// Only what was written by sessions whose id begins with this
    #[arg(long, value_name = "PREFIX", help_heading = "Filters")]
    pub(crate) session: Option<OsString>,

    /// Only what was written through this tool
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    pub(crate) tool: Option<OsString>,

    /// Only what was written in this turn
    #[arg(long, value_name = "TURN", help_heading = "Filters")]
    pub(crate) turn: Option<OsString>,

    /// Only what was written with an intent that contains this
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    pub(crate) intent: Option<OsString>,

    /// Only what this user wrote, by name or number
    ///
    /// A record names a user only where no session was declared.
    #[arg(long, value_name = "USER", help_heading = "Filters")]
    pub(crate) user: Option<String>,

    /// Only what a program of this name wrote
    ///
    /// A record names a program only where no session was declared, and the first 15 bytes of it.
    #[arg(long, value_name = "COMM", help_heading = "Filters")]
    pub(crate) comm: Option<OsString>,

    /// Let --session, --user and --comm match earlier writers too
    #[arg(long, help_heading = "Filters")]
    pub(crate) history: bool,

    /// Only what was written then or later
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    pub(crate) since: Option<String>,

    /// Only what was written then or earlier
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    pub(crate) until: Option<String>,

    /// Only files without a record
    #[arg(
        long,
        conflicts_with_all = [
            "session", "tool", "turn", "intent", "user", "comm", "since", "until", "verify"
        ],
        help_heading = "Filters"
    )]
    pub(crate) unstamped: bool,

    /// With -r, files without a record as well
    #[arg(short, long, help_heading = "Filters")]
    pub(crate) all: bool,

    /// Say how the record fits the times of the file; with verdicts, only files of these
    #[arg(
        long,
        value_name = "VERDICT,...",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        action = ArgAction::Append,
        help_heading = "Filters"
    )]
    pub(crate) verify: Option<Vec<Verdict>>,

    /// One line for each file
    #[arg(short, long, group = "form", help_heading = "What is printed")]
    pub(crate) line: bool,

    /// A tree of folders and files; implies -r
    ///
    /// It is printed when all is known, so its memory grows with the number of files.
    #[arg(
        long,
        group = "form",
        conflicts_with = "sort",
        help_heading = "What is printed"
    )]
    pub(crate) tree: bool,

    /// One JSON document
    ///
    /// It is {"schema": 1, "files": [...]}. Values that are not UTF-8 are given in base64, under a
    /// name that ends in _b64.
    #[arg(long, group = "form", help_heading = "What is printed")]
    pub(crate) json: bool,

    /// One JSON object a line for each file, as soon as it is known
    #[arg(long, group = "form", help_heading = "What is printed")]
    pub(crate) ndjson: bool,

    /// A line made of this for each file, such as '{path} {session}'; see below
    #[arg(
        long,
        value_name = "TEMPLATE",
        group = "form",
        help_heading = "What is printed"
    )]
    pub(crate) format: Option<OsString>,

    /// How many files there are, and nothing else
    #[arg(short, long, help_heading = "What is printed")]
    pub(crate) count: bool,

    /// How many files each one wrote, and when; most files first
    #[arg(
        long,
        value_name = "WHAT",
        conflicts_with_all = ["count", "line", "tree", "format", "sort"],
        help_heading = "What is printed"
    )]
    pub(crate) group_by: Option<GroupBy>,

    /// In which order; by default as named, and in folders by name
    ///
    /// All but the default and none wait until all is known and keep it in memory, or no more than
    /// --limit of it.
    #[arg(long, value_name = "ORDER", help_heading = "What is printed")]
    pub(crate) sort: Option<Sort>,

    /// The other way round
    #[arg(long, requires = "sort", help_heading = "What is printed")]
    pub(crate) reverse: bool,

    /// Print no more than so many files, or groups
    #[arg(short = 'n', long, value_name = "N", help_heading = "What is printed")]
    pub(crate) limit: Option<usize>,

    /// When to use colors; auto also heeds NO_COLOR
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "What is printed"
    )]
    pub(crate) color: ColorChoice,

    /// When to use a pager; auto is for text on a terminal
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "What is printed"
    )]
    pub(crate) paging: Paging,
}

/// How a record fits the times of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Verdict {
    /// The data are of the time of the record
    Current,
    /// The data are later
    Stale,
    /// The data carry an earlier time
    Backdated,
    /// The record is older than the file
    Copied,
    /// The record is later than all that happened to the file
    Ahead,
    /// The record has no time that can be read
    Undated,
}

/// What files are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupBy {
    /// The session, or program and user
    Session,
    /// The tool
    Tool,
    /// The user, where no session was declared
    User,
    /// The day, in the local zone
    Day,
}

/// The order of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// By path
    Path,
    /// The latest first
    Time,
    /// By session, then by time
    Session,
    /// As the file system has them: fastest, and the least memory
    None,
}

/// When output goes through a pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Paging {
    /// Text on a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Args, Verdict};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn verdicts_are_optional() {
        let verify = |args: &[&str]| {
            Args::try_parse_from([&["provfs-show", "f"], args].concat()).map(|args| args.verify)
        };
        assert_eq!(verify(&[]).unwrap(), None);
        assert_eq!(verify(&["--verify"]).unwrap(), Some(vec![]));
        let two = verify(&["--verify=stale,copied"]).unwrap();
        assert_eq!(two, Some(vec![Verdict::Stale, Verdict::Copied]));
        assert!(verify(&["--verify=good"]).is_err());
    }

    #[test]
    fn there_is_something_to_ask() {
        for (args, good) in [
            (&["provfs-show"][..], false),
            (&["provfs-show", "-r"], true),
            (&["provfs-show", "--tree"], true),
            (&["provfs-show", "--files-from", "-"], true),
            (&["provfs-show", "-l", "--json", "f"], false),
            (&["provfs-show", "--unstamped", "--tool", "x", "f"], false),
            (&["provfs-show", "--count", "--json", "f"], true),
        ] {
            assert_eq!(Args::try_parse_from(args).is_ok(), good, "{args:?}");
        }
    }
}
