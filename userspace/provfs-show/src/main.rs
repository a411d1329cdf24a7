//! `provfs-show`: asks files who wrote them.
//!
//! This file decides exit codes and nothing else. [`args`] is the command line, [`show`] reads
//! records and feeds them to a printer, of which there are two: [`text`] for people and [`json`]
//! for programs.

#![forbid(unsafe_code)]

mod args;
mod json;
mod show;
mod text;
mod when;

use std::{
    io::{self, ErrorKind},
    process::ExitCode,
};

use clap::Parser;
use provfs_cli::exit;

use crate::{args::Args, show::Outcome};

fn main() -> ExitCode {
    let args = Args::parse();
    ExitCode::from(match show::run(&args) {
        Ok(Outcome { failed: true, .. }) => exit::FAILED,
        Ok(Outcome { found: true, .. }) => exit::OK,
        Ok(Outcome { .. }) => exit::NOTHING,
        // Whoever reads our output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            complain(&error);
            exit::FAILED
        }
    })
}

fn complain(error: &io::Error) {
    eprintln!(
        "provfs-show: cannot write the output: {error}; check that there is space left where it goes"
    );
}
