//! `provfs-overlay`: mounts the file system of the library of this name.
//!
//! Called as `mount.fuse.provfs`, it understands what mount(8) says.

#![forbid(unsafe_code)]

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::Path, process::ExitCode};

use clap::Parser;
use provfs_cli::exit;
use provfs_overlay::{
    StartError,
    args::{Args, from_mount},
    mount,
};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("provfs-overlay: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run() -> Result<ExitCode, StartError> {
    let given: Vec<OsString> = std::env::args_os().collect();
    match given.as_slice() {
        [_, guard, mount] if guard == mount::GUARD => {
            mount::guard(Path::new(mount));
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let program = given
        .first()
        .and_then(|program| Path::new(program).file_name());
    let is_helper = program.is_some_and(|name| name.as_bytes().starts_with(b"mount."));
    let line = if is_helper { from_mount(given)? } else { given };
    let args = Args::parse_from(&line);
    if args.foreground || args.ready {
        mount::run(&args)?;
        Ok(ExitCode::SUCCESS)
    } else {
        mount::in_background(&line)
    }
}
