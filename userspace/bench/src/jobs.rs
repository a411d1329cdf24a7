//! Rows of a whole program's work each.
//!
//! What they work on is prepared on the host (`scripts/lib/bench.sh`) and copied to a tmpfs in the guest, so that no
//! instruction depends on how fast the host serves files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    configuration::{Peers, run},
    error::{Context, Result},
    meter::{Meter, Reading, pass_time},
};

/// What a job needs, and may use up.
pub(crate) struct Site<'a> {
    /// Counts.
    pub(crate) meter: &'a Meter,
    /// An empty directory on the file system that is measured.
    pub(crate) dir: &'a Path,
    /// What was prepared.
    pub(crate) inputs: &'a Path,
    /// Programs that may not be installed.
    pub(crate) peers: &'a Peers,
}

/// A row.
pub(crate) struct Job {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) about: &'static str,
    /// Whether the gate runs it.
    pub(crate) quick: bool,
    /// Programs that it needs.
    pub(crate) programs: &'static [&'static str],
    /// Does it.
    pub(crate) measure: fn(&Site<'_>) -> Result<Reading>,
}

/// All of them.
pub(crate) const JOBS: &[Job] = &[
    Job {
        name: "untar_775",
        about: "tar -x of 775 entries, the fs/ of a kernel",
        quick: true,
        programs: &["tar"],
        measure: untar_775,
    },
    Job {
        name: "unpack_1300",
        about: "tar -x of 1,300 source files",
        quick: false,
        programs: &["tar"],
        measure: unpack_1300,
    },
    Job {
        name: "compile_c",
        about: "gcc -c of 20 C files",
        quick: false,
        programs: &["gcc"],
        measure: compile_c,
    },
    Job {
        name: "cargo_build",
        about: "cargo build of a small project",
        quick: false,
        programs: &["cargo"],
        measure: cargo_build,
    },
    Job {
        name: "git_clone",
        about: "git clone of a repository with 1,300 files, and its checkout",
        quick: false,
        programs: &["git"],
        measure: git_clone,
    },
    Job {
        name: "postmark",
        about: "postmark: 1,000 files, 5,000 transactions, 500 bytes to 9.77 KiB",
        quick: false,
        programs: &["postmark"],
        measure: postmark,
    },
    Job {
        name: "fio_mixed",
        about: "fio: random reads and writes of 4 KiB, 16 MiB in 4 files, fsync after 64",
        quick: false,
        programs: &["fio"],
        measure: fio_mixed,
    },
    Job {
        name: "sqlite_inserts",
        about: "sqlite3: 200 transactions of an insert",
        quick: false,
        programs: &["sqlite3"],
        measure: sqlite_inserts,
    },
    Job {
        name: "editor_save",
        about: "vim: 50 changes of a file of 400 lines, each saved",
        quick: false,
        programs: &["vim"],
        measure: editor_save,
    },
];

/// Measures a command, run in the directory of the site.
fn command(site: &Site<'_>, mut command: Command) -> Result<Reading> {
    command.current_dir(site.dir);
    site.meter.measure(|| run(&mut command).map(drop))
}

fn untar(site: &Site<'_>, archive: &str) -> Result<Reading> {
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(site.inputs.join(archive));
    command(site, tar)
}

fn untar_775(site: &Site<'_>) -> Result<Reading> {
    untar(site, "fs.tar")
}

fn unpack_1300(site: &Site<'_>) -> Result<Reading> {
    untar(site, "sources.tar")
}

fn compile_c(site: &Site<'_>) -> Result<Reading> {
    let sources = site.inputs.join("c");
    let mut files: Vec<PathBuf> = fs::read_dir(&sources)
        .at("list", &sources)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    // The temporary files of the compiler are where those of a user would be: on a skipped path.
    let mut gcc = Command::new("gcc");
    gcc.env("TMPDIR", "/run").args(["-w", "-c"]).args(files);
    command(site, gcc)
}

fn cargo_build(site: &Site<'_>) -> Result<Reading> {
    let project = site.dir.join("project");
    run(Command::new("cp")
        .arg("-r")
        .arg(site.inputs.join("project"))
        .arg(&project))?;
    // Not "target", which is skipped by default.
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "build",
            "--offline",
            "--quiet",
            "--jobs",
            "1",
            "--target-dir",
            "out",
            "--manifest-path",
        ])
        .arg(project.join("Cargo.toml"))
        .env("CARGO_INCREMENTAL", "0");
    command(site, cargo)
}

fn git_clone(site: &Site<'_>) -> Result<Reading> {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args([
            "-c",
            "gc.auto=0",
            "-c",
            "pack.threads=1",
            "clone",
            "--quiet",
        ])
        .arg(site.inputs.join("sources.bundle"))
        .arg("clone");
    let reading = command(site, git)?;
    // Without a branch to check out git is content with less, and so would be the figures.
    fs::metadata(site.dir.join("clone/kernel")).at("find", "clone/kernel")?;
    Ok(reading)
}

fn postmark(site: &Site<'_>) -> Result<Reading> {
    let script = site.inputs.join("postmark.script");
    let text = format!(
        "set location {}\nset number 1000\nset transactions 5000\nset seed 42\nset size 500 10000\nset buffering false\n\
         run\nquit\n",
        site.dir.display()
    );
    fs::write(&script, text).at("write", &script)?;
    let mut postmark = site.peers.command("postmark");
    postmark.arg(script);
    command(site, postmark)
}

fn fio_mixed(site: &Site<'_>) -> Result<Reading> {
    let mut fio = site.peers.command("fio");
    fio.args([
        "--name=mixed",
        "--rw=randrw",
        "--bs=4k",
        "--size=16m",
        "--nrfiles=4",
        "--ioengine=psync",
        "--fsync=64",
        "--randseed=42",
        "--thread",
        "--minimal",
        "--directory=.",
        "--randrepeat=1",
        "--clocksource=clock_gettime",
    ]);
    command(site, fio)
}

fn sqlite_inserts(site: &Site<'_>) -> Result<Reading> {
    let mut sqlite = Command::new("sqlite3");
    let mut script = String::from("create table t(id integer primary key, text text);");
    for number in 0..200 {
        script += &format!("insert into t(text) values('{number:0>100}');");
    }
    sqlite.arg("database").arg(script);
    command(site, sqlite)
}

fn editor_save(site: &Site<'_>) -> Result<Reading> {
    let file = site.dir.join("text");
    let mut text = String::new();
    for line in 0..400 {
        text += &format!("{line:0>60}\n");
    }
    fs::write(&file, text).at("write", &file)?;
    // As if made yesterday: the editor finds the file of somebody else.
    pass_time(Duration::from_secs(2));
    let mut vim = Command::new("vim");
    vim.args(["-N", "-u", "NONE", "-i", "NONE", "-es", "-c"])
        .arg("for i in range(50) | call setline(1, 'change ' . i) | write | endfor")
        .args(["-c", "quit!"])
        .arg(&file);
    command(site, vim)
}
