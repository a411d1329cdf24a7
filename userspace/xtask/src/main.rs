//! `xtask`: writes the man pages and shell completions of the tools.
//!
//! They are made from the definitions of the flags themselves. Of a tool without a library this
//! compiles `args.rs`, which depends on nothing but clap.

#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Command, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Includes the command line of a tool.
macro_rules! tool {
    ($name:ident, $path:literal) => {
        #[path = $path]
        #[allow(dead_code, unused_imports, reason = "only the definition is used here")]
        mod $name;
    };
}

tool!(config, "../../provfs-config/src/args.rs");
tool!(run, "../../provfs-run/src/args.rs");
tool!(show, "../../provfs-show/src/args.rs");

/// Writes the man pages and shell completions of the tools.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write a man page for each tool and each of its commands
    Man {
        /// The folder, which is made if need be
        out: PathBuf,
    },
    /// Write completions for bash, zsh and fish, under the names that the shells look for
    Completions {
        /// The folder, which is made if need be
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let (what, out, result) = match Args::parse().task {
        Task::Man { out } => ("man pages", out.clone(), man_pages(&out)),
        Task::Completions { out } => ("completions", out.clone(), completions(&out)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "xtask: cannot write the {what} to {}: {error}",
                out.display()
            );
            ExitCode::from(2)
        }
    }
}

/// The tools. Name and description are those of their packages; seen from here, clap takes those of
/// this one.
fn commands() -> [Command; 4] {
    [
        named(
            config::Args::command(),
            include_str!("../../provfs-config/Cargo.toml"),
        ),
        named(
            run::Args::command(),
            include_str!("../../provfs-run/Cargo.toml"),
        ),
        named(
            show::Args::command(),
            include_str!("../../provfs-show/Cargo.toml"),
        ),
        named(
            provfs_overlay::args::Args::command(),
            include_str!("../../provfs-overlay/Cargo.toml"),
        ),
    ]
}

fn named(command: Command, manifest: &'static str) -> Command {
    let value = |key: &str| {
        let mut lines = manifest.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        value.map_or("", |value| value.trim_end_matches('"'))
    };
    command.name(value("name")).about(value("description"))
}

fn man_pages(out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
    for command in commands() {
        clap_mangen::generate_to(without_help(command), out)?;
    }
    Ok(())
}

/// `help` repeats what every page says.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true)
}

fn completions(out: &Path) -> io::Result<()> {
    for (folder, shell) in [
        ("bash", Shell::Bash),
        ("zsh", Shell::Zsh),
        ("fish", Shell::Fish),
    ] {
        let folder = out.join(folder);
        fs::create_dir_all(&folder)?;
        for mut command in commands() {
            let name = command.get_name().to_owned();
            clap_complete::generate_to(shell, &mut command, name, &folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_tool_and_command_has_a_page_that_names_its_flags() {
        let out = tempfile::tempdir().unwrap();
        man_pages(out.path()).unwrap();
        let pages = names(out.path());
        for command in commands() {
            let name = command.get_name().to_owned();
            assert!(pages.contains(&format!("{name}.1")), "{pages:?}");
            for sub in command.get_subcommands() {
                let page = format!("{name}-{}.1", sub.get_name());
                assert!(pages.contains(&page), "{page} is not in {pages:?}");
            }
            let page = fs::read_to_string(out.path().join(format!("{name}.1"))).unwrap();
            let flags = command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set());
            for flag in flags.filter_map(|argument| argument.get_long()) {
                assert!(
                    page.contains(&flag.replace('-', "\\-")),
                    "{name}.1 lacks --{flag}"
                );
            }
            assert!(
                !page.contains("\\-\\-root"),
                "{name}.1 shows what is for tests"
            );
            assert!(page.contains("Exit status"), "{name}.1");
            let about = command.get_about().map(ToString::to_string).unwrap();
            assert!(
                about.len() > 20 && page.contains(&about),
                "{name}.1 lacks {about:?}"
            );
        }
    }

    #[test]
    fn every_tool_has_completions() {
        let out = tempfile::tempdir().unwrap();
        completions(out.path()).unwrap();
        let of = |shell: &str| names(&out.path().join(shell));
        let tools = [
            "provfs-config",
            "provfs-overlay",
            "provfs-run",
            "provfs-show",
        ];
        assert_eq!(of("bash"), tools.map(|tool| format!("{tool}.bash")));
        assert_eq!(of("zsh"), tools.map(|tool| format!("_{tool}")));
        assert_eq!(of("fish"), tools.map(|tool| format!("{tool}.fish")));
        let fish = fs::read_to_string(out.path().join("fish/provfs-config.fish")).unwrap();
        assert!(fish.contains("dry-run") && fish.contains("doctor"));
    }
}
