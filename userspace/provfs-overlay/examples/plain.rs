//! The file system without records, to compare with: the same command line, in the foreground.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use provfs_overlay::{args::Args, mount};

fn main() -> ExitCode {
    match mount::run_plain(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain: {error}");
            ExitCode::from(2)
        }
    }
}
