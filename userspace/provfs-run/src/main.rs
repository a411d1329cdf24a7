//! `provfs-run`: becomes a command that declares who it works for.
//!
//! [`args`] is the command line, [`declare`] works out the environment, and [`own`] fixes the
//! session in the kernel. Nothing is done after the command was executed: this process is it.

#![forbid(unsafe_code)]

mod args;
mod declare;
mod own;

use std::{
    ffi::{OsStr, OsString},
    io::{self, ErrorKind, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use clap::Parser;
use ulid::Ulid;

use crate::{
    args::Args,
    declare::{Names, Plan},
    own::{LockError, Own},
};

/// The declaration could not be made. Clap exits with this when the command line is wrong.
const FAILED: u8 = 2;

/// The command was found and could not be executed, as POSIX has it for env(1).
const NOT_EXECUTED: u8 = 126;

/// The command was not found, likewise.
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let args = Args::parse();
    let session = match (&args.session, args.new_session) {
        (None, true) => Some(OsString::from(Ulid::generate().to_string())),
        (session, _) => session.clone(),
    };
    let plan = match prepare(&args, session.as_deref()) {
        Ok(plan) => plan,
        Err(error) => {
            say(&format!("{error}; the command was not run"));
            return ExitCode::from(FAILED);
        }
    };
    if let (Some(session), true) = (&session, args.new_session) {
        say(&format!("session {}", session.to_string_lossy()));
    }
    let error = execute(&args.command, &plan);
    let program = args.command.first().cloned().unwrap_or_default();
    let (code, advice) = match error.kind() {
        ErrorKind::NotFound => (NOT_FOUND, "check the spelling and PATH"),
        ErrorKind::PermissionDenied => (
            NOT_EXECUTED,
            "check that it is a program, and may be executed",
        ),
        _ => (NOT_EXECUTED, "check that it is a program for this machine"),
    };
    say(&format!("cannot execute {program:?}: {error}; {advice}"));
    ExitCode::from(code)
}

/// Works out the environment and fixes the session. After this, only the execution can fail.
fn prepare(args: &Args, session: Option<&OsStr>) -> Result<Plan, LockError> {
    let values = [
        session,
        args.tool.as_deref(),
        args.turn.as_deref(),
        args.intent.as_deref(),
    ];
    let plan = declare::plan(&Names::read(&args.root), values, args.clear);
    for kind in &plan.deaf {
        let kind = declare::name(*kind);
        say(&format!(
            "the kernel looks for no {kind}: provfs.env_{kind} is empty; 'provfs-config reset env_{kind}' changes that"
        ));
    }
    let own = Own::read(&args.root);
    if args.lock {
        own::lock(&args.root, own.as_ref(), session)?;
    } else if let (Some(own), Some(session)) = (&own, session) {
        // The environment would say one thing, and the records another.
        own.allows(session)?;
    }
    Ok(plan)
}

/// Becomes the command. Returns only if that fails.
fn execute(words: &[OsString], plan: &Plan) -> io::Error {
    let Some((program, arguments)) = words.split_first() else {
        return ErrorKind::NotFound.into();
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for name in &plan.remove {
        command.env_remove(name);
    }
    for (name, value) in &plan.set {
        command.env(name, value);
    }
    command.exec()
}

/// Writes a line to standard error. That it cannot be written is nothing that could be said.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "provfs-run: {line}");
}
