//! The command line, and the other one that mount(8) uses.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use provfs::{
    Format,
    pure::{environ::Kind, limits::HISTORY_MAX},
};

use crate::{Settings, StartError, caller::process::EnvNames};

const AFTER_HELP: &str = "\
As it is mounted, this tells what became of all modifications:
  getfattr --only-values -n user.provfs.status MOUNT

Exit status:
  0  it was mounted (with --foreground: and unmounted)
  2  it could not be mounted, or the command line was wrong

Examples:
  provfs-overlay --source ~/src --mount ~/work
  fusermount3 -u ~/work
  mount -t fuse.provfs -o allow_other,skip=tmp /srv/data /srv/work";

/// Shows a directory at another place, and stamps what is written there with who wrote it.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP)]
pub struct Args {
    /// The directory to show
    #[arg(long, value_name = "DIR")]
    pub source: PathBuf,

    /// Where to show it
    #[arg(long, value_name = "DIR")]
    pub mount: PathBuf,

    /// Skip rules, behind .git,node_modules,target,.cache,.venv,__pycache__; ! records again
    #[arg(long, value_name = "RULES", default_value = "")]
    pub skip: OsString,

    /// How records are stored: as several attributes of a file, or as one
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "keys")]
    pub format: FormatArg,

    /// How many sessions a history has at most
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=HISTORY_MAX as i64))]
    pub history: u8,

    /// How old a record of the same writer may get before it is renewed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=86_400_000))]
    pub granularity_ms: u32,

    /// Variables that declare the session, best first
    #[arg(long, value_name = "NAMES")]
    pub env_session: Option<OsString>,

    /// Variables that declare the tool, best first
    #[arg(long, value_name = "NAMES")]
    pub env_tool: Option<OsString>,

    /// Variables that declare the turn, best first
    #[arg(long, value_name = "NAMES")]
    pub env_turn: Option<OsString>,

    /// Variables that declare the intent, best first
    #[arg(long, value_name = "NAMES")]
    pub env_intent: Option<OsString>,

    /// Stay in the foreground, and log to standard error
    #[arg(long)]
    pub foreground: bool,

    /// Let all users in, with their own rights; as root only, or with user_allow_other in /etc/fuse.conf
    #[arg(long)]
    pub allow_other: bool,

    /// Allow no changes
    #[arg(long)]
    pub read_only: bool,

    /// Refuse changes to records, that is to user.prov*, through the mount
    #[arg(long)]
    pub protect: bool,

    /// How many requests are worked on at a time [default: one for each processor, 4 at least]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,

    /// Have all reads and writes go through this process, so that each writer is known
    #[arg(long)]
    pub no_passthrough: bool,

    /// For how long names and attributes are remembered, so long may a change that is made behind the mount go unseen
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub cache: Duration,

    /// Keep the records in a database, beside the source if no file is named
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub sidecar: Option<Option<PathBuf>>,

    /// What to log
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = ["off", "error", "warn", "info", "debug"])]
    pub log: String,

    /// Where to log; in the background nothing is logged without it
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// An option for the mount itself
    #[arg(long, value_name = "OPTION", hide = true, value_parser = ["nodev", "nosuid", "noexec"])]
    pub mount_option: Vec<String>,

    /// Say on standard output when it is mounted
    #[arg(long, hide = true)]
    pub ready: bool,
}

/// See [`Format`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// `user.prov.session`, `user.prov.tool` and so on
    Keys,
    /// `user.prov` alone
    Packed,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Args {
    /// The settings of the file system. `mount` is the mount point as it is known to everybody.
    pub fn settings(
        &self,
        mount: PathBuf,
        sidecar: Option<PathBuf>,
    ) -> Result<Settings, StartError> {
        let mut names = EnvNames::default();
        for (kind, list) in [
            (Kind::Session, &self.env_session),
            (Kind::Tool, &self.env_tool),
            (Kind::Turn, &self.env_turn),
            (Kind::Intent, &self.env_intent),
        ] {
            if let Some(list) = list {
                let list = list.as_bytes();
                names.set(kind, list).map_err(|error| StartError::Names {
                    list: list.escape_ascii().to_string(),
                    error,
                })?;
            }
        }
        Ok(Settings {
            skip: self.skip.as_bytes().to_vec(),
            format: match self.format {
                FormatArg::Keys => Format::Keys,
                FormatArg::Packed => Format::Packed,
            },
            history: usize::from(self.history),
            granularity: Duration::from_millis(u64::from(self.granularity_ms)),
            protect: self.protect,
            passthrough: !self.no_passthrough,
            cache: self.cache,
            names,
            sidecar,
            ..Settings::new(mount)
        })
    }
}

/// The command line for what mount(8) says: `SOURCE MOUNT [-sfnv] [-t TYPE] [-o OPTIONS]`.
pub fn from_mount(args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, StartError> {
    let mut places = Vec::new();
    let mut line: Vec<OsString> = vec!["provfs-overlay".into()];
    let mut args = args.into_iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"-o" => {
                let options = args.next().ok_or(StartError::Helper)?;
                for option in split_options(options.as_bytes()) {
                    line.extend(from_option(&option)?);
                }
            }
            b"-t" | b"-N" => drop(args.next().ok_or(StartError::Helper)?),
            [b'-', _, ..] => {}
            _ => places.push(arg),
        }
    }
    let [source, mount] = <[OsString; 2]>::try_from(places).map_err(|_| StartError::Helper)?;
    line.extend(["--source".into(), source, "--mount".into(), mount]);
    Ok(line)
}

/// Options are separated by commas, but for those between double quotes or behind a backslash.
fn split_options(text: &[u8]) -> Vec<Vec<u8>> {
    let mut options = vec![Vec::new()];
    let (mut quoted, mut escaped) = (false, false);
    for &byte in text {
        let Some(option) = options.last_mut() else {
            break;
        };
        match byte {
            b',' if !quoted && !escaped => options.push(Vec::new()),
            b'"' if !escaped => quoted = !quoted,
            b'\\' if !escaped && !quoted => {
                escaped = true;
                continue;
            }
            // It has a meaning of its own before anything but a comma.
            _ if escaped && byte != b',' => option.extend([b'\\', byte]),
            _ => option.push(byte),
        }
        escaped = false;
    }
    options.retain(|option| !option.is_empty());
    options
}

fn from_option(option: &[u8]) -> Result<Vec<OsString>, StartError> {
    const OURS: [&[u8]; 15] = [
        b"allow_other",
        b"cache",
        b"env_intent",
        b"env_session",
        b"env_tool",
        b"env_turn",
        b"format",
        b"granularity_ms",
        b"history",
        b"log",
        b"log_file",
        b"no_passthrough",
        b"protect",
        b"skip",
        b"threads",
    ];
    // What concerns mount(8) itself, or is so anyway.
    const THEIRS: [&[u8]; 24] = [
        b"rw",
        b"dev",
        b"suid",
        b"exec",
        b"atime",
        b"noatime",
        b"relatime",
        b"norelatime",
        b"strictatime",
        b"diratime",
        b"nodiratime",
        b"async",
        b"sync",
        b"dirsync",
        b"defaults",
        b"auto",
        b"noauto",
        b"user",
        b"nouser",
        b"users",
        b"nofail",
        b"_netdev",
        b"default_permissions",
        b"auto_unmount",
    ];
    let (name, value) = match option.iter().position(|&byte| byte == b'=') {
        Some(at) => (&option[..at], Some(&option[at + 1..])),
        None => (option, None),
    };
    let flag = |name: &[u8]| {
        let name = name
            .iter()
            .map(|&byte| if byte == b'_' { b'-' } else { byte });
        OsString::from_vec(b"--".iter().copied().chain(name).collect())
    };
    let text = || OsStr::from_bytes(value.unwrap_or_default()).to_owned();
    Ok(match name {
        b"ro" => vec!["--read-only".into()],
        b"nodev" | b"nosuid" | b"noexec" => {
            vec!["--mount-option".into(), OsStr::from_bytes(name).to_owned()]
        }
        b"sidecar" => {
            let mut flag = flag(name);
            if value.is_some() {
                flag.push("=");
                flag.push(text());
            }
            vec![flag]
        }
        name if OURS.contains(&name) && value.is_none() => vec![flag(name)],
        name if OURS.contains(&name) => {
            let mut joined = flag(name);
            joined.push("=");
            joined.push(text());
            vec![joined]
        }
        name if THEIRS.contains(&name) || name.starts_with(b"x-") || name == b"comment" => vec![],
        _ => return Err(StartError::Option(option.escape_ascii().to_string())),
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

    fn line(args: &[&str]) -> Result<String, String> {
        let args = args.iter().map(OsString::from);
        let line = from_mount(args).map_err(|error| error.to_string())?;
        Args::try_parse_from(&line).map_err(|error| error.to_string())?;
        let words: Vec<_> = line
            .iter()
            .skip(1)
            .map(|word| word.to_string_lossy())
            .collect();
        Ok(words.join(" "))
    }

    #[test]
    fn options_of_mount_become_ours() {
        let given = [
            "mount.fuse.provfs",
            "/a",
            "/b",
            "-o",
            "rw,noatime,allow_other,skip=\"a,b\",history=2,ro,nodev,x-gvfs-hide",
        ];
        assert_eq!(
            line(&given).unwrap(),
            "--allow-other --skip=a,b --history=2 --read-only --mount-option nodev --source /a --mount /b"
        );
        let escaped = [
            "m",
            "/a",
            "/b",
            "-n",
            "-o",
            "skip=a\\,b\\*,sidecar=/x",
            "-t",
            "fuse.provfs",
        ];
        assert_eq!(
            line(&escaped).unwrap(),
            "--skip=a,b\\* --sidecar=/x --source /a --mount /b"
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        assert!(
            line(&["m", "/a", "/b", "-o", "colour=red"])
                .unwrap_err()
                .contains("colour=red")
        );
        assert!(line(&["m", "/a"]).is_err());
        assert!(line(&["m", "/a", "/b", "-o", "history=99"]).is_err());
        assert!(line(&["m", "/a", "/b", "-o", "protect=1"]).is_err());
    }
}
