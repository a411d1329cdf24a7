//! What is measured against what: how a kernel is set up, and which daemons run.
//!
//! A configuration that does not do what its name says would give good figures. So each proves itself before it is
//! measured: a file is written, and what should come of that is looked for.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::ValueEnum;
use rustix::fs::getxattr;

use crate::{
    error::{Context, Error, Result},
    meter::pass_time,
};

/// Settings of the security module.
const SETTINGS: &str = "/proc/sys/provfs";

/// Where the daemons of a guest leave what they record.
const LOGS: &str = "/run/provfs-bench";

/// A configuration of the same kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Config {
    /// provfs is not in `lsm=`: what all others are compared with.
    Absent,
    /// provfs is there, with `enabled=0`.
    Disabled,
    /// A skip rule covers the files.
    Skipping,
    /// Files are stamped, in the format `keys`.
    Keys,
    /// Files are stamped, in the format `packed`.
    Packed,
    /// No provfs; auditd, with one rule for writes below the mount point.
    Audit,
    /// No provfs; fatrace records what happens on the mount.
    Fatrace,
    /// No provfs; inotifywait records what is closed after writing below the mount point.
    Inotify,
}

impl Config {
    /// Its name, everywhere.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Config::Absent => "absent",
            Config::Disabled => "disabled",
            Config::Skipping => "skipping",
            Config::Keys => "keys",
            Config::Packed => "packed",
            Config::Audit => "audit",
            Config::Fatrace => "fatrace",
            Config::Inotify => "inotify",
        }
    }

    /// Whether provfs runs.
    fn has_provfs(self) -> bool {
        matches!(
            self,
            Config::Disabled | Config::Skipping | Config::Keys | Config::Packed
        )
    }

    /// What this kernel lacks for it, if anything.
    pub(crate) fn missing(self, peers: &Peers) -> Option<String> {
        let format = Path::new(SETTINGS).join("format");
        match self {
            Config::Packed if !format.exists() => {
                Some(format!("this kernel has no {}", format.display()))
            }
            Config::Audit => peers.missing("auditd"),
            Config::Fatrace => peers.missing("fatrace"),
            Config::Inotify => peers.missing("inotifywait"),
            _ => None,
        }
    }
}

/// Programs to compare with, which need not be installed.
pub(crate) struct Peers {
    root: Option<PathBuf>,
}

impl Peers {
    /// `root` has unpacked packages.
    pub(crate) fn new(root: Option<PathBuf>) -> Self {
        Peers { root }
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let folders = ["sbin", "bin", "usr/sbin", "usr/bin"];
        let roots = self
            .root
            .iter()
            .map(PathBuf::as_path)
            .chain([Path::new("/")]);
        roots
            .flat_map(|root| folders.map(|folder| root.join(folder).join(program)))
            .find(|path| path.exists())
    }

    /// Says that a program is missing.
    pub(crate) fn missing(&self, program: &str) -> Option<String> {
        match self.find(program) {
            Some(_) => None,
            None => Some(format!("there is no {program}: scripts/setup --bench")),
        }
    }

    /// A command that finds its libraries.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.find(program).unwrap_or_else(|| program.into()));
        if let Some(root) = &self.root {
            // In the last one fio looks for its own, by an absolute path that is another one here.
            let libraries = [
                "usr/lib/x86_64-linux-gnu",
                "lib/x86_64-linux-gnu",
                "usr/lib/x86_64-linux-gnu/ceph",
            ]
            .map(|folder| root.join(folder).display().to_string());
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
        }
        command
    }
}

/// A configuration that is in force for a file system. Ends with this.
pub(crate) struct Active {
    daemon: Option<Child>,
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // It may have ended; there is nobody to tell.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Puts a configuration in force for the files below `mount`, and proves that it is.
pub(crate) fn activate(config: Config, mount: &Path, peers: &Peers) -> Result<Active> {
    if config.has_provfs() != Path::new(SETTINGS).exists() {
        return Err(Error::Content {
            path: SETTINGS.into(),
            what: format!(
                "'{}' is for another command line of the kernel; see scripts/bench",
                config.name()
            ),
        });
    }
    fs::create_dir_all(LOGS).at("make", LOGS)?;
    let daemon = match config {
        Config::Absent => None,
        Config::Disabled => {
            set("enabled", "0")?;
            None
        }
        Config::Skipping => {
            let list = get("skip")?;
            let rule = format!(",{}", mount.display());
            if !list.trim_end().ends_with(&rule) {
                set("skip", &format!("{}{rule}", list.trim_end()))?;
            }
            None
        }
        Config::Keys => {
            if Path::new(SETTINGS).join("format").exists() {
                set("format", "keys")?;
            }
            None
        }
        Config::Packed => {
            set("format", "packed")?;
            None
        }
        Config::Audit => Some(audit(mount, peers)?),
        Config::Fatrace => {
            let mut command = peers.command("fatrace");
            command
                .arg("-c")
                .arg("-o")
                .arg(log("fatrace"))
                .current_dir(mount);
            Some(start(command)?)
        }
        Config::Inotify => {
            let mut command = peers.command("inotifywait");
            command
                .args(["-m", "-r", "-q", "-e", "close_write", "-o"])
                .arg(log("inotify"))
                .arg(mount);
            Some(start(command)?)
        }
    };
    let active = Active { daemon };
    prove(config, mount)?;
    Ok(active)
}

fn log(name: &str) -> PathBuf {
    Path::new(LOGS).join(name)
}

/// Reads a setting.
pub(crate) fn get(setting: &str) -> Result<String> {
    let path = Path::new(SETTINGS).join(setting);
    fs::read_to_string(&path).at("read", path)
}

/// Writes a setting.
pub(crate) fn set(setting: &str, value: &str) -> Result {
    let path = Path::new(SETTINGS).join(setting);
    fs::write(&path, value).at("write to", path)
}

fn start(mut command: Command) -> Result<Child> {
    let program = command.get_program().to_owned();
    let said = File::create(log("said")).at("create", log("said"))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .at("execute", program)?;
    Ok(child)
}

/// Starts auditd with what it needs to lose nothing, and gives it one rule.
fn audit(mount: &Path, peers: &Peers) -> Result<Child> {
    let configuration = Path::new(LOGS).join("audit.d");
    fs::create_dir_all(&configuration).at("make", &configuration)?;
    let file = configuration.join("auditd.conf");
    let text = format!(
        "log_file = {}\nlog_format = RAW\nwrite_logs = yes\nlocal_events = yes\nflush = INCREMENTAL_ASYNC\nfreq = 50\n\
         max_log_file = 4096\nmax_log_file_action = ignore\nspace_left = 75\nadmin_space_left = 50\nspace_left_action = ignore\nadmin_space_left_action = ignore\n\
         disk_full_action = ignore\ndisk_error_action = ignore\n",
        log("audit").display()
    );
    fs::write(&file, text).at("write", &file)?;

    let mut command = peers.command("auditd");
    command.args(["-n", "-c"]).arg(&configuration);
    let mut daemon = start(command)?;
    let pid = format!("pid {}\n", daemon.id());
    let mut looks = 0..LOOKS;
    while !run(peers.command("auditctl").arg("-s"))?.contains(&pid) {
        work_for_a_while();
        if looks.next().is_none() || daemon.try_wait().is_ok_and(|status| status.is_some()) {
            let said = fs::read_to_string(log("said")).unwrap_or_default();
            return Err(Error::Program {
                program: "auditd".to_owned(),
                status: "no connection to the kernel".to_owned(),
                said: format!(" and said {:?}", said.trim()),
            });
        }
    }
    let dir = format!("dir={}", mount.display());
    for arguments in [
        &["-D"][..],
        &["-b", "8192", "-e", "1"],
        &[
            "-a",
            "always,exit",
            "-F",
            &dir,
            "-F",
            "perm=w",
            "-k",
            "provfs",
        ],
    ] {
        run(peers.command("auditctl").args(arguments))?;
    }
    Ok(daemon)
}

/// Runs a program to its end; it must succeed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .at("execute", &program)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let end = said.char_indices().rev().nth(300).map_or(0, |(at, _)| at);
    Err(Error::Program {
        program,
        status: output.status.to_string(),
        said: format!(" and said {:?}", said[end..].trim()),
    })
}

/// How often is looked for what a configuration should do. A daemon that is being loaded waits for the host, and while the
/// guest waits its time leaps; so what passes between two looks is work.
const LOOKS: u32 = 400;

/// Writes a file, and looks whether the configuration has noticed.
fn prove(config: Config, mount: &Path) -> Result {
    let file = mount.join("proof");
    for _ in 0..LOOKS {
        fs::write(&file, "x").at("write", &file)?;
        work_for_a_while();
        pass_time(Duration::from_millis(100));
        let noticed = has_noticed(config, &file);
        fs::remove_file(&file).at("delete", &file)?;
        if noticed {
            return Ok(());
        }
    }
    let said = fs::read_to_string(log("said")).unwrap_or_default();
    Err(Error::Content {
        path: file,
        what: format!(
            "'{}' has not done what it should when this was written {}",
            config.name(),
            said.trim()
        ),
    })
}

/// Some ten million instructions.
fn work_for_a_while() {
    for turn in 0..5_000_000_u32 {
        std::hint::black_box(turn);
    }
}

/// Whether a file that was written has the record that it should have, or none, or is in a log.
fn has_noticed(config: Config, file: &Path) -> bool {
    let keys = getxattr(file, "user.prov.session", &mut [0_u8; 256]).is_ok();
    let packed = getxattr(file, "user.prov", &mut [0_u8; 512]).is_ok();
    let is_logged = |name: &str| {
        let text = fs::read(log(name)).unwrap_or_default();
        text.windows(b"proof".len()).any(|word| word == b"proof")
    };
    match config {
        Config::Absent | Config::Disabled | Config::Skipping => !keys && !packed,
        Config::Keys => keys && !packed,
        Config::Packed => packed && !keys,
        Config::Audit => is_logged("audit"),
        Config::Fatrace => is_logged("fatrace"),
        Config::Inotify => is_logged("inotify"),
    }
}

/// Records that were lost: a peer that drops some is cheaper than it looks.
pub(crate) fn lost(config: Config, peers: &Peers) -> Result<u64> {
    if config != Config::Audit {
        return Ok(0);
    }
    let status = run(peers.command("auditctl").arg("-s"))?;
    let lost = status.lines().find_map(|line| line.strip_prefix("lost "));
    Ok(lost
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0))
}
