//! `provfs-show`: asks files who wrote them.
//!
//! This file decides exit codes and nothing else. The others, as data pass through them: [`args`] is
//! the command line, [`question`] works out what it means, [`walk`] finds files, [`ask`] reads their
//! records and drops what [`filter`] and [`verify`] turn down, [`order`] sorts, [`mod@print`] has a
//! printer for each form, and [`pager`] is where it goes. [`mod@run`] connects them.

#![forbid(unsafe_code)]

mod args;
mod ask;
mod filter;
mod order;
mod pager;
mod print;
mod question;
mod run;
mod times;
mod verify;
mod walk;

use std::{io::ErrorKind, process::ExitCode};

use clap::{CommandFactory, Parser, error};
use provfs_cli::exit;

use crate::{
    args::Args,
    run::{Error, Result, complain, run},
};

fn main() -> ExitCode {
    let args = Args::parse();
    ExitCode::from(match run(&args) {
        Ok(Result { failed: true, .. }) => exit::FAILED,
        Ok(Result { found: true, .. }) => exit::OK,
        Ok(Result { .. }) => exit::NOTHING,
        // Whoever reads our output has seen enough.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
        Err(Error::Output(error)) => {
            complain(&format!(
                "cannot write the output: {error}; check that there is space left where it goes"
            ));
            exit::FAILED
        }
        Err(Error::Usage(error)) => Args::command()
            .error(error::ErrorKind::ValueValidation, error)
            .exit(),
    })
}
