//! `doctor`: what keeps provfs from recording, and what to do about it.
//!
//! Each examination looks at one thing and adds what it finds. A *problem* is what keeps files from
//! being recorded as somebody expects; a *hint* is what may be meant as it is.

use std::{fs, path::Path};

use provfs::pure::{
    environ::NameList,
    limits::SKIP_TEXT_MAX,
    skip::{self, Facts},
};
use provfs_cli::exit;
use serde::Serialize;

use super::{check, status::Status};
use crate::{
    error::Error,
    kernel::{self, Kernel},
    output::Out,
    place::{self, Mounts},
    roots::Roots,
    rules::{self, RuleList},
    settings::{SETTINGS, Setting},
    stored::Stored,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Good,
    Hint,
    Problem,
}

/// Something that was found.
#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    what: String,
    /// What to do.
    advice: Option<String>,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, what: impl Into<String>) {
        self.add(Severity::Good, what.into(), None);
    }

    fn hint(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Hint, what.into(), Some(advice.into()));
    }

    fn problem(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Problem, what.into(), Some(advice.into()));
    }

    fn add(&mut self, severity: Severity, what: String, advice: Option<String>) {
        self.0.push(Finding {
            severity,
            what,
            advice,
        });
    }
}

/// Does it.
pub(super) fn run(roots: &Roots, out: &mut Out) -> Result<u8, Error> {
    let mut findings = Findings::default();
    examine_module(roots, &mut findings);
    if let Ok(kernel) = Kernel::running(roots) {
        examine_settings(&kernel, &mut findings)?;
        examine_counters(roots, &mut findings);
    }
    examine_rules(roots, &mut findings)?;
    examine_stored(roots, &mut findings)?;

    for finding in &findings.0 {
        let mark = match finding.severity {
            Severity::Good => "good   ",
            Severity::Hint => "hint   ",
            Severity::Problem => "PROBLEM",
        };
        out.line(format!("{mark}  {}", finding.what));
        if let Some(advice) = &finding.advice {
            out.line(format!("         -> {advice}"));
        }
    }
    let problems = findings
        .0
        .iter()
        .any(|finding| finding.severity == Severity::Problem);
    #[derive(Serialize)]
    struct Document {
        findings: Vec<Finding>,
    }
    out.document(
        "doctor",
        Document {
            findings: findings.0,
        },
    );
    Ok(if problems { exit::NOTHING } else { exit::OK })
}

/// Is it built, and was it started?
fn examine_module(roots: &Roots, findings: &mut Findings) {
    let release = kernel::release(roots);
    let Some(list) = kernel::security_modules(roots) else {
        findings.problem(
            "/sys/kernel/security is not there, so neither the status nor the list of security modules can be read",
            "mount -t securityfs securityfs /sys/kernel/security",
        );
        return;
    };
    if kernel::names_provfs(&list) {
        findings.good(format!(
            "provfs runs in kernel {release} (security modules: {list})"
        ));
        if !roots.settings().is_dir() {
            findings.problem(
                "/proc/sys/provfs is not there, so nothing can be changed",
                "build the kernel with CONFIG_PROC_SYSCTL=y, and mount proc",
            );
        }
        return;
    }
    let boot_line = fs::read_to_string(roots.at("/proc/cmdline")).unwrap_or_default();
    let chosen = boot_line
        .split_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix("lsm="));
    let start = match chosen {
        Some(chosen) => format!("change lsm={chosen} on the boot line to lsm={chosen},provfs"),
        None => {
            format!("add lsm={list},provfs to the boot line, or provfs to the end of CONFIG_LSM")
        }
    };
    match kernel::is_built_in(roots) {
        Some(true) => findings.problem(
            format!("provfs is built into kernel {release}, but was not started (security modules: {list})"),
            format!("{start}, and boot again"),
        ),
        Some(false) => findings.problem(
            format!("kernel {release} was built without provfs"),
            format!("boot one that was built with CONFIG_SECURITY_PROVFS=y; then {start}"),
        ),
        None => findings.problem(
            format!("provfs was not started in kernel {release}, and whether it is built in cannot be told"),
            format!("boot a kernel that was built with CONFIG_SECURITY_PROVFS=y; then {start}"),
        ),
    }
}

/// Is it switched on, and can anything be declared?
fn examine_settings(kernel: &Kernel<'_>, findings: &mut Findings) -> Result<(), Error> {
    let value = |name: &'static str| match Setting::find(name) {
        Some(setting) => kernel.get(setting),
        None => Ok(None),
    };
    if value("enabled")?.is_some_and(|value| value == b"0") {
        findings.problem(
            "nothing is recorded: provfs.enabled is 0",
            "provfs-config set enabled=1",
        );
    }
    let mut lacking = Vec::new();
    for setting in &SETTINGS {
        if kernel.get(setting)?.is_none() {
            lacking.push(setting.name);
        }
    }
    if !lacking.is_empty() {
        findings.hint(
            format!("not in this kernel: {}", lacking.join(", ")),
            "a newer provfs may have them; nothing else depends on them",
        );
    }

    let mut seen: Vec<(Vec<u8>, &str)> = Vec::new();
    for (name, what) in [
        ("env_session", "session"),
        ("env_tool", "tool"),
        ("env_turn", "turn"),
        ("env_intent", "intent"),
    ] {
        let Some(text) = value(name)? else { continue };
        let Ok(names) = NameList::parse(&text) else {
            continue;
        };
        if names.is_empty() {
            findings.hint(
                format!("provfs.{name} is empty, so no environment declares a {what}"),
                format!("if that is not meant: provfs-config reset {name}"),
            );
        }
        for variable in names.iter() {
            let shown = String::from_utf8_lossy(variable);
            match seen.iter().find(|(known, _)| known == variable) {
                Some((_, first)) if *first == name => findings.hint(
                    format!("provfs.{name} names {shown} twice"),
                    "the second one has no effect: remove it",
                ),
                Some((_, first)) => findings.hint(
                    format!("{shown} is in provfs.{first} and in provfs.{name}"),
                    "one variable then declares both; if that is not meant, take it out of one",
                ),
                None => seen.push((variable.to_vec(), name)),
            }
        }
    }
    Ok(())
}

/// Did anything fail?
fn examine_counters(roots: &Roots, findings: &mut Findings) {
    let status = match Status::read(roots) {
        Ok(status) => status,
        Err(error) => {
            findings.problem(
                error.to_string(),
                "mount securityfs at /sys/kernel/security",
            );
            return;
        }
    };
    let mut failed = false;
    for (name, value) in status.counters() {
        let Some(errno) = name.strip_prefix("failed.").filter(|_| value > 0) else {
            continue;
        };
        failed = true;
        let advice = match errno {
            "ENOSPC" | "EDQUOT" => "make room on the file systems that are written to",
            "E2BIG" | "ERANGE" => {
                "files have so many other attributes that there is no room; remove some of those"
            }
            "EIO" => "look for errors of disks in the kernel log: dmesg",
            "ENOMEM" => "the machine ran out of memory at times",
            "EBUSY" => "file systems were frozen when files were released; nothing to do",
            _ => "see 'failed' in the admin guide, and the kernel log: dmesg",
        };
        findings.problem(
            format!("{value} records could not be made: {errno}"),
            advice,
        );
    }
    let lost = status.counter("identity_failed");
    if lost > 0 {
        findings.problem(
            format!("of {lost} programs, what they declared could not be kept"),
            "the machine ran out of memory at times; what they wrote has fallback sessions",
        );
    }
    if !failed && lost == 0 {
        findings.good(format!(
            "{} of {} modifications were recorded or said so already, and none failed",
            status.counter("stamped") + status.counter("unchanged") + status.counter("paid"),
            status.counter("modifications")
        ));
    }
}

/// File systems that programs see and nobody keeps files on.
const WITHOUT_FILES: [&[u8]; 19] = [
    b"autofs",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"devpts",
    b"devtmpfs",
    b"efivarfs",
    b"fusectl",
    b"hugetlbfs",
    b"mqueue",
    b"nsfs",
    b"proc",
    b"pstore",
    b"securityfs",
    b"sysfs",
    b"tracefs",
];

/// Do the rules do what they seem to, and is there what they are about?
fn examine_rules(roots: &Roots, findings: &mut Findings) -> Result<(), Error> {
    let mounts = Mounts::read(roots)?;
    let text = match (Kernel::running(roots), Setting::find("skip")) {
        (Ok(kernel), Some(skip)) => kernel.get(skip)?.unwrap_or_default(),
        // Those that would be in force.
        _ => skip::DEFAULT.to_vec(),
    };
    let list = match RuleList::parse(&text) {
        Ok(list) => list,
        Err(error) => {
            findings.hint(
                format!("this program cannot read the skip list: {error}"),
                "take a provfs-config that is as new as the kernel",
            );
            return Ok(());
        }
    };
    if text.len() * 10 >= SKIP_TEXT_MAX * 9 {
        findings.hint(
            format!("the skip list has {} of {SKIP_TEXT_MAX} bytes", text.len()),
            "put rules together with * and ?, or remove what makes no difference",
        );
    }
    for idle in check::idle_rules(&list) {
        findings.hint(
            idle,
            "remove it, or move it behind the other: the last rule that matches decides",
        );
    }
    examine_objects(roots, &list, &mounts, findings);
    examine_mounts(roots, &list, &mounts, findings);
    Ok(())
}

/// Rules about what is not there. Those of the default list are for any machine.
fn examine_objects(roots: &Roots, list: &RuleList, mounts: &Mounts, findings: &mut Findings) {
    let default = RuleList::sources(skip::DEFAULT).unwrap_or_default();
    let types = mounts.types();
    let known = fs::read_to_string(roots.at("/proc/filesystems")).unwrap_or_default();
    for (index, rule, source) in list.iter() {
        if default.contains(&source) {
            continue;
        }
        let shown = format!("rule {}, {}", index + 1, String::from_utf8_lossy(source));
        if let Some(path) = rules::literal_path(rule, source) {
            let path =
                Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
            match fs::canonicalize(path) {
                Ok(real) if real != path => findings.problem(
                    format!(
                        "{shown} never matches: the kernel sees this path as {}",
                        real.display()
                    ),
                    format!("write {} instead", real.display()),
                ),
                Ok(_) => {}
                Err(_) => findings.hint(
                    format!("{shown} is about a path that is not there now"),
                    "check the spelling, or leave it if it is made later",
                ),
            }
        }
        if let Some(fs_type) = rules::literal_fs(rule, source) {
            let is_known = known.lines().any(|line| {
                line.split_whitespace().next_back().map(str::as_bytes) == Some(fs_type)
            });
            if !types.contains(fs_type) && !is_known {
                findings.hint(
                    format!("{shown} is about a type of file system that this kernel does not know now"),
                    "check the spelling against /proc/filesystems, or leave it if a module brings it",
                );
            } else if !types.contains(fs_type) {
                findings.hint(
                    format!("{shown} is about a type of file system that is not mounted now"),
                    "nothing to do if it is mounted at times",
                );
            }
        }
    }
}

/// File systems that cannot be stamped, and that no rule skips.
fn examine_mounts(roots: &Roots, list: &RuleList, mounts: &Mounts, findings: &mut Findings) {
    for mount in mounts.iter() {
        let facts = Facts {
            path: Some(place::bytes(&mount.point)),
            fs_type: &mount.fs_type,
            comm: b"",
            uid: 0,
        };
        if mount.read_only || WITHOUT_FILES.contains(&&*mount.fs_type) || list.skips(&facts) {
            continue;
        }
        let point = roots.at(&mount.point.to_string_lossy());
        if !place::keeps_user_attributes(&point) {
            findings.problem(
                format!(
                    "files on {} ({}) cannot be stamped: it keeps no user.* attributes",
                    mount.point.display(),
                    String::from_utf8_lossy(&mount.fs_type)
                ),
                "keep work on ext4, xfs, btrfs or tmpfs; or skip it, so that it is not counted: provfs-config add skip "
                    .to_owned()
                    + &mount.point.to_string_lossy(),
            );
        }
    }
}

/// What holds after the next boot.
fn examine_stored(roots: &Roots, findings: &mut Findings) -> Result<(), Error> {
    let stored = Stored::read(roots);
    for mistake in &stored.mistakes {
        findings.problem(
            mistake,
            "correct it there; 'provfs-config check FILE' checks it again",
        );
    }
    for value in &stored.overridden {
        findings.hint(
            format!(
                "{} sets provfs.{} to something else than /etc/provfs.toml, which has the last word",
                value.file.display(),
                value.setting.name
            ),
            "remove it from one of them",
        );
    }
    if let Ok(kernel) = Kernel::running(roots) {
        let mut changed = Vec::new();
        for (setting, running) in kernel.all()? {
            let next = stored
                .get(setting)
                .map_or(setting.default, |value| &value.value);
            if !setting.same(&running, next) {
                changed.push(setting.name);
            }
        }
        if !changed.is_empty() {
            findings.hint(
                format!(
                    "these settings will be others after the next boot: {}",
                    changed.join(", ")
                ),
                "'provfs-config diff' shows how, 'provfs-config persist' keeps what is running",
            );
        }
    }
    let has_toml = roots.toml().exists();
    let boots_systemd = roots.at("/run/systemd/system").is_dir();
    let enabled = roots.at("/etc/systemd/system/sysinit.target.wants/provfs-config.service");
    if has_toml && boots_systemd && enabled.symlink_metadata().is_err() {
        findings.hint(
            "nothing applies /etc/provfs.toml at boot: provfs-config.service is not enabled",
            "systemctl enable provfs-config.service",
        );
    }
    Ok(())
}
