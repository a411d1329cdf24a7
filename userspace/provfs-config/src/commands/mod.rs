//! The commands. Each returns an exit code; what it prints is collected in [`Out`].

mod check;
mod doctor;
mod edit;
mod persist;
mod show;
mod status;
mod test;

use crate::{
    args::{Args, Command},
    error::Error,
    output::Out,
    roots::Roots,
    settings::Setting,
};

/// Does what was asked for.
pub(crate) fn run(args: &Args, out: &mut Out) -> Result<u8, Error> {
    let roots = &Roots::new(&args.root);
    match &args.command {
        Command::Get { names } => show::get(roots, out, names),
        Command::List => show::list(roots, out),
        Command::Diff => show::diff(roots, out),
        Command::Set { assignments, how } => edit::set(roots, out, assignments, *how),
        Command::Add { rules, how, .. } => edit::add(roots, out, rules, *how),
        Command::Remove { rules, how, .. } => edit::remove(roots, out, rules, *how),
        Command::Reset { names, how } => edit::reset(roots, out, names, *how),
        Command::Reload { how } => edit::reload(roots, out, *how),
        Command::Persist {
            names,
            sysctl_d,
            dry_run,
        } => persist::run(roots, out, names, *sysctl_d, *dry_run),
        Command::Test {
            paths,
            uid,
            comm,
            rules,
        } => test::run(
            roots,
            out,
            paths,
            &test::Writer::new(*uid, comm.as_deref()),
            rules.as_deref(),
        ),
        Command::Check { file } => check::run(out, file),
        Command::Status { interval } => status::run(roots, out, *interval),
        Command::Doctor => doctor::run(roots, out),
    }
}

/// The settings of these names.
fn named(names: &[String]) -> Result<Vec<&'static Setting>, Error> {
    let find = |name: &String| Setting::find(name).ok_or_else(|| Error::Unknown(name.clone()));
    names.iter().map(find).collect()
}

/// What is different from one value to another: `- item` and `+ item` for lists.
fn difference(setting: &Setting, before: &[u8], after: &[u8]) -> Vec<String> {
    let shown = |item: &[u8]| String::from_utf8_lossy(item).into_owned();
    if !setting.is_list() {
        let quoted = |value: &[u8]| match shown(value.trim_ascii()) {
            text if text.is_empty() => "\"\"".to_owned(),
            text => text,
        };
        return vec![format!("{} -> {}", quoted(before), quoted(after))];
    }
    let (before, after) = (setting.items(before), setting.items(after));
    let gone = before.iter().filter(|item| !after.contains(item));
    let new = after.iter().filter(|item| !before.contains(item));
    let mut lines: Vec<_> = gone.map(|item| format!("- {}", shown(item))).collect();
    lines.extend(new.map(|item| format!("+ {}", shown(item))));
    if lines.is_empty() && before != after {
        lines.push("the same in another order, or another number of times".to_owned());
    }
    lines
}
