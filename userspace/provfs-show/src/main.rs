//! `provfs-show`: asks files who wrote them.
//!
//! This file decides exit codes and nothing else. [`args`] is the command line, [`show`] reads
//! records and feeds them to a printer, of which there are two: [`text`] for people and [`json`]
//! for programs.

#![forbid(unsafe_code)]

mod args;
mod escape;
mod json;
mod show;
mod text;
mod when;

use std::{
    io::{self, ErrorKind},
    process::ExitCode,
};

use clap::Parser;

use crate::{args::Args, show::Outcome};

/// Some file has a record.
const FOUND: u8 = 0;
/// All files could be read, and none has a record.
const NOT_FOUND: u8 = 1;
/// Some file could not be read, or the command line was wrong (clap exits with the same code by
/// itself).
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    ExitCode::from(match show::run(&args) {
        Ok(Outcome { failed: true, .. }) => FAILED,
        Ok(Outcome { found: true, .. }) => FOUND,
        Ok(Outcome { .. }) => NOT_FOUND,
        // Whoever reads our output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => FOUND,
        Err(error) => {
            complain(&error);
            FAILED
        }
    })
}

fn complain(error: &io::Error) {
    eprintln!(
        "provfs-show: cannot write the output: {error}; check that there is space left where it goes"
    );
}
