//! `provfs-bench`: measures what provfs and its peers cost, and reports it.
//!
//! `measure` runs in a guest that counts instructions (`qemu/run --icount`) and prints figures. The others run on the host:
//! `gather` makes a file of them, `table` and `document` show it, `check` compares two. `scripts/bench` puts it together.

mod configuration;
mod error;
mod figures;
mod growth;
mod jobs;
mod measure;
mod meter;
mod micro;
mod report;
mod rewriter;
mod space;
mod spinner;
mod statistics;
mod writers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use provfs_cli::exit;

use crate::{configuration::Config, error::Result, figures::Figures, measure::Part};

/// Measures what provfs and its peers cost, and reports it.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// In a guest: measures one configuration and prints a line of JSON for each figure
    Measure {
        /// What is in force
        #[arg(long)]
        config: Config,
        /// File systems, mounted at /mnt/NAME
        #[arg(long, value_delimiter = ',', default_value = "ext4,tmpfs")]
        fs: Vec<String>,
        /// What to measure
        #[arg(long, value_delimiter = ',', default_value = "micro")]
        parts: Vec<Part>,
        /// Only rows with this in their names; may be given more than once
        #[arg(long)]
        only: Vec<String>,
        /// Only the rows of the gate
        #[arg(long)]
        quick: bool,
        /// Folder with unpacked packages of the peers
        #[arg(long)]
        peers: Option<PathBuf>,
        /// Folder with what jobs work on
        #[arg(long, default_value = ".")]
        inputs: PathBuf,
    },
    /// Gathers what guests have printed
    Gather {
        /// Files with lines of JSON
        #[arg(required = true)]
        lines: Vec<PathBuf>,
        /// The file to write
        #[arg(long)]
        to: PathBuf,
    },
    /// Shows figures as a table; status 1 if one of them is refused
    Table {
        /// A file that `gather` has written
        figures: PathBuf,
    },
    /// Writes performance.md and its charts
    Document {
        /// A file that `gather` has written
        figures: PathBuf,
        /// The folder to write to
        #[arg(long)]
        to: PathBuf,
    },
    /// Compares figures with committed ones; status 1 if a row has grown by more than 2 %
    Check {
        /// A file that `gather` has written
        figures: PathBuf,
        /// The figures to compare with
        #[arg(long)]
        committed: PathBuf,
        /// Do not miss what was not measured
        #[arg(long)]
        partial: bool,
    },
    /// Keeps the processor busy (for `measure`)
    #[command(hide = true)]
    Spin,
    /// Rewrites files (for `measure`)
    #[command(hide = true)]
    Rewriter,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("provfs-bench: {error}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(action: Action) -> Result<u8> {
    match action {
        Action::Measure {
            config,
            fs,
            parts,
            only,
            quick,
            peers,
            inputs,
        } => {
            measure::measure(&measure::Options {
                config,
                fs,
                parts,
                only,
                quick,
                peers,
                inputs,
            })?;
        }
        Action::Gather { lines, to } => Figures::gather(&lines)?.save(&to)?,
        Action::Table { figures } => {
            let figures = Figures::load(&figures)?;
            print!("{}", report::table::render(&figures));
            if report::table::refused(&figures) > 0 {
                return Ok(exit::NOTHING);
            }
        }
        Action::Document { figures, to } => report::write_document(&Figures::load(&figures)?, &to)?,
        Action::Check {
            figures,
            committed,
            partial,
        } => return check(&figures, &committed, partial),
        Action::Spin => match spinner::spin()? {},
        Action::Rewriter => rewriter::serve()?,
    }
    Ok(exit::OK)
}

fn check(figures: &Path, committed: &Path, partial: bool) -> Result<u8> {
    let (now, committed) = (Figures::load(figures)?, Figures::load(committed)?);
    let found = report::gate::compare(&committed, &now, partial);
    for found in &found {
        println!("{found}");
    }
    let failures = found
        .iter()
        .filter(|found| found.finding.is_failure())
        .count();
    println!(
        "{} figures compared, {failures} failed",
        now.cells().count()
    );
    Ok(if failures == 0 {
        exit::OK
    } else {
        exit::NOTHING
    })
}
