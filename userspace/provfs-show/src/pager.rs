//! Where output goes: to the standard output, or through a pager to people.

use std::{
    env,
    io::{self, BufWriter, StdoutLock, Write},
    process::{Child, ChildStdin, Command, Stdio},
};

/// The standard output or a pager.
pub(crate) enum Output {
    Direct(BufWriter<StdoutLock<'static>>),
    Paged {
        pager: Child,
        input: BufWriter<ChildStdin>,
    },
}

impl Output {
    /// The standard output, as it is.
    pub(crate) fn direct() -> Self {
        // More than the usual 8 KiB: long lists are written in large pieces.
        Output::Direct(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    /// A pager, unless the environment wants none or it cannot be started.
    pub(crate) fn paged() -> Self {
        let Some(command) = command() else {
            return Output::direct();
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).stdin(Stdio::piped());
        // As git does: quit if it fits on one screen, let colors through, leave the text there.
        for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
            if env::var_os(name).is_none() {
                shell.env(name, value);
            }
        }
        let Ok(mut pager) = shell.spawn() else {
            return Output::direct();
        };
        match pager.stdin.take() {
            Some(input) => Output::Paged {
                pager,
                input: BufWriter::new(input),
            },
            None => Output::direct(),
        }
    }

    pub(crate) fn is_paged(&self) -> bool {
        matches!(self, Output::Paged { .. })
    }

    /// Writes what is left, and waits until the pager was left.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Output::Direct(mut out) => out.flush(),
            Output::Paged { mut pager, input } => {
                // Dropping its input tells it that this is all.
                let flushed = input.into_inner().map(drop);
                pager.wait()?;
                flushed.map_err(|error| error.into_error())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Direct(out) => out.write(bytes),
            Output::Paged { input, .. } => input.write(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::Direct(out) => out.write_all(bytes),
            Output::Paged { input, .. } => input.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Direct(out) => out.flush(),
            Output::Paged { input, .. } => input.flush(),
        }
    }
}

/// The pager that the environment names, or less. `None` if there shall be none.
fn command() -> Option<String> {
    let named = ["PROVFS_PAGER", "PAGER"].into_iter().find_map(env::var_os);
    let command = match named {
        Some(command) => command.into_string().ok()?,
        None => "less".into(),
    };
    let command = command.trim();
    (!command.is_empty() && command != "cat").then(|| command.to_owned())
}
