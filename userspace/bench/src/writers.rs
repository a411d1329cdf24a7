//! Concurrent writers, by the clock on the wall: two processors, no counting of instructions, so this is noisy.

use std::{fs, path::Path, time::Instant};

use crate::{
    configuration::Config,
    error::{Context, Result},
    figures::{Line, Writers},
    micro::{Forked, paths, rewrite},
};

use rustix::fs::OFlags;

/// How many write at a time.
const WRITERS: [u32; 4] = [1, 4, 16, 64];

/// Files that all of them write together.
const FILES: u32 = 6_400;

/// Rounds, of which the quickest counts.
const ROUNDS: u32 = 7;

/// Measures on a file system.
pub(crate) fn measure(
    config: Config,
    mount: &Path,
    mut emit: impl FnMut(&Line) -> Result,
) -> Result {
    for writers in WRITERS {
        let mut quickest = f64::INFINITY;
        for _ in 0..ROUNDS {
            quickest = quickest.min(round(mount, writers)?);
        }
        emit(&Line::Writers(Writers {
            config: config.name().to_owned(),
            writers,
            micros: quickest,
        }))?;
    }
    Ok(())
}

/// Microseconds per file.
fn round(mount: &Path, writers: u32) -> Result<f64> {
    let top = mount.join("writers");
    let mut work = Vec::new();
    for writer in 0..writers {
        let dir = top.join(format!("{writer:02}"));
        fs::create_dir_all(&dir).at("make", &dir)?;
        work.push(paths(&dir, "file", FILES / writers));
    }
    let start = Instant::now();
    let children: Vec<_> = work
        .iter()
        .map(|paths| {
            Forked::run(|| {
                for path in paths {
                    // That it failed shows in the number of files.
                    let _ = rewrite(path, OFlags::CREATE | OFlags::WRONLY, &[b'x'; 4096]);
                }
            })
        })
        .collect::<Result<_>>()?;
    for child in children {
        child.wait()?;
    }
    let elapsed = start.elapsed();
    let written = work
        .iter()
        .flatten()
        .filter(|path| Path::new(&path.to_string_lossy().into_owned()).exists())
        .count();
    fs::remove_dir_all(&top).at("delete", top)?;
    if written != (FILES / writers * writers) as usize {
        return Err(std::io::Error::other("some could not be written"))
            .at("write files below", mount);
    }
    Ok(elapsed.as_secs_f64() * 1e6 / f64::from(FILES))
}
