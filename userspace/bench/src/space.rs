//! What records take: on disk for each file, in memory for each object.

use std::{fs, path::Path, time::Duration};

use rustix::{
    fs::{open, statvfs, sync},
    io::write,
};

use crate::{
    configuration::{Config, Peers, run},
    error::{Context, Error, Result},
    figures::{Memory, Space},
    meter::pass_time,
    micro::{MODE, NEW, paths, sleepers},
};

/// Files that are written.
pub(crate) const FILES: u32 = 10_000;

/// How files are written: the time between two of them matters, because file systems may store equal records once.
const HOW: [(&str, Duration); 2] = [
    ("within seconds", Duration::ZERO),
    ("each in a second of its own", Duration::from_millis(1100)),
];

/// Writes files and looks how much less is free afterwards.
pub(crate) fn on_disk(config: Config, fs: &str, dir: &Path) -> Result<Vec<Space>> {
    let mut found = Vec::new();
    for (how, apart) in HOW {
        let dir = dir.join("space");
        fs::create_dir(&dir).at("make", &dir)?;
        let before = free(&dir)?;
        for path in paths(&dir, "file", FILES) {
            let name = || path.to_string_lossy().into_owned();
            let file = open(&path, NEW, MODE).at("create", name())?;
            write(&file, b"x").at("write to", name())?;
            drop(file);
            if !apart.is_zero() {
                pass_time(apart);
            }
        }
        found.push(Space {
            fs: fs.to_owned(),
            config: config.name().to_owned(),
            how: how.to_owned(),
            bytes: before - free(&dir)?,
        });
        fs::remove_dir_all(&dir).at("delete", dir)?;
    }
    Ok(found)
}

/// Bytes that are free when everything is on disk, and what is freed late is freed.
fn free(dir: &Path) -> Result<i64> {
    for _ in 0..2 {
        sync();
        pass_time(Duration::from_secs(35));
    }
    let fs = statvfs(dir).at("look at the file system of", dir)?;
    // No disk here has 8 EiB.
    Ok(i64::try_from(fs.f_bfree * fs.f_frsize).unwrap_or(i64::MAX))
}

/// Objects that security modules add something to, as they are named in the log with `lsm.debug`.
const OBJECTS: [&str; 5] = ["file", "inode", "task", "superblock", "cred"];

/// Processes that are started to see what each takes.
const PROCESSES: usize = 500;

/// What security modules add to each object, and what a process takes in the caches of the kernel. Of the latter only the
/// difference between two configurations means something.
pub(crate) fn in_memory(config: Config, peers: &Peers, programs: &Path) -> Result<Vec<Memory>> {
    let log = run(&mut peers.command("dmesg"))?;
    let mut found: Vec<_> = blob_sizes(&log).collect();
    // The first ones fill what is kept for later.
    drop(sleepers(programs, PROCESSES)?);
    let before = unreclaimable()?;
    let processes = sleepers(programs, PROCESSES)?;
    pass_time(Duration::from_secs(1));
    let after = unreclaimable()?;
    found.push((
        "process",
        (after - before) / i64::try_from(processes.len()).unwrap_or(1),
    ));
    Ok(found
        .into_iter()
        .map(|(object, bytes)| Memory {
            config: config.name().to_owned(),
            object: object.to_owned(),
            bytes,
        })
        .collect())
}

/// Bytes in caches of the kernel that cannot be given back.
fn unreclaimable() -> Result<i64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).at("read", path)?;
    let kibibytes = text.lines().find_map(|line| {
        let value = line
            .strip_prefix("SUnreclaim:")?
            .trim()
            .strip_suffix("kB")?;
        value.trim().parse::<i64>().ok()
    });
    kibibytes
        .map(|value| value * 1024)
        .ok_or_else(|| Error::Content {
            path: path.into(),
            what: "there is no SUnreclaim".to_owned(),
        })
}

fn blob_sizes(log: &str) -> impl Iterator<Item = (&'static str, i64)> {
    OBJECTS.iter().filter_map(move |object| {
        let label = format!("blob({object}) size ");
        let line = log.lines().find_map(|line| line.split_once(&label))?;
        Some((*object, line.1.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_found_in_the_log() {
        let log = "[    0.1] LSM: blob(cred) size 32\n[    0.1] LSM: blob(file) size 56\n\
                   [    0.1] LSM: blob(backing_file) size 0\n[    0.1] LSM: blob(inode) size 24\n";
        let sizes: Vec<_> = blob_sizes(log).collect();
        assert_eq!(sizes, [("file", 56), ("inode", 24), ("cred", 32)]);
    }
}
