//! Asks each file and feeds the answers to a printer. A file that cannot be read does not stop the
//! others.

use std::{
    error::Error,
    io::{self, BufWriter, IsTerminal, Write},
    path::Path,
};

use anstream::AutoStream;
use clap::ColorChoice;
use provfs::{ReadError, Reader, Record};

use crate::{args::Args, json::Json, text::Text, when::Clock};

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Some file has a record.
    pub(crate) found: bool,
    /// Some file could not be read.
    pub(crate) failed: bool,
}

/// Prints one file after the other.
pub(crate) trait Printer {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;
    fn file(&mut self, out: &mut dyn Write, path: &Path, record: Option<&Record>)
    -> io::Result<()>;
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// Runs the program. Errors are those of the output.
pub(crate) fn run(args: &Args) -> io::Result<Outcome> {
    let stdout = io::stdout();
    let mut printer: Box<dyn Printer> = if args.json {
        Box::new(Json::new())
    } else {
        let color = match args.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
        };
        Box::new(Text::new(color, stdout.is_terminal(), Clock::system()))
    };
    let mut out = BufWriter::new(stdout.lock());
    let mut reader = Reader::new();
    reader.follow_links(!args.no_follow);

    let mut outcome = Outcome::default();
    printer.begin(&mut out)?;
    for path in &args.files {
        match reader.read(path) {
            Ok(record) => {
                outcome.found |= record.is_some();
                printer.file(&mut out, path, record.as_ref())?;
            }
            Err(error) => {
                outcome.failed = true;
                // In the order in which things happened, where both go to one terminal.
                out.flush()?;
                complain(&error);
            }
        }
    }
    printer.end(&mut out)?;
    out.flush()?;
    Ok(outcome)
}

fn complain(error: &ReadError) {
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let advice = error
        .advice()
        .map(|advice| format!("; {advice}"))
        .unwrap_or_default();
    eprintln!("provfs-show: {error}{cause}{advice}");
}
