//! `provfs-config`: the settings of the provfs security module.
//!
//! This file decides exit codes and nothing else. A command line ([`args`]) becomes a command
//! ([`commands`]). Those of them that change something read the running settings ([`kernel`]) or
//! the persisted ones ([`stored`]), work out what is to become of them, and have it done as a whole
//! or not at all ([`change`]). What a setting is and what values it can have is in [`settings`]
//! and [`rules`].

#![forbid(unsafe_code)]

mod args;
mod change;
mod commands;
mod error;
mod kernel;
mod kernel_log;
mod output;
mod place;
mod roots;
mod rules;
mod settings;
mod stored;
mod sysctl_d;
mod toml_array;
mod toml_file;

use std::{
    io::{ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use clap::Parser;
use provfs_cli::{escape::write_escaped, exit};

use crate::{args::Args, error::Error, output::Out};

fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = Out::new(args.json);
    let result = commands::run(&args, &mut out);
    // What could be had is printed, whatever came after it.
    let printed = out.flush();
    let code = match result {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            exit::FAILED
        }
    };
    match printed {
        Ok(()) => ExitCode::from(code),
        // Whoever reads our output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(code),
        Err(error) => {
            complain(&Error::Output(error));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Says what went wrong. Parts of it may come from a file or the command line.
fn complain(error: &Error) {
    for line in error.to_string().lines() {
        say(line);
    }
}

/// Writes a line to standard error. That it cannot be written is nothing that could be said.
fn say(line: &str) {
    let mut text = b"provfs-config: ".to_vec();
    let mut stderr = std::io::stderr().lock();
    if !stderr.is_terminal() || write_escaped(&mut text, line.as_bytes()).is_err() {
        text.extend_from_slice(line.as_bytes());
    }
    text.push(b'\n');
    let _ = stderr.write_all(&text);
}
