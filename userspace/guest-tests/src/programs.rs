//! Real programs: what they leave behind names the session and the tool.

use std::{fs, path::Path, process::Command};

use crate::{
    fixture::{Outcome, Place, Setting, Stop, Test, each, ensure, ensure_eq, skip},
    record::{ALICE, BOB, Who, ensure_by, ensure_none, fallback, key},
};

pub(crate) const TESTS: &[Test] = &[
    each("sh: pipeline and redirect", pipeline),
    each("bash: redirects and here-documents", bash),
    each("a script is named by its own name", script),
    each("python3: writing without closing, then leaving", python),
    each("tar: unpacking", tar),
    each("cp, mv, install, dd, tee, truncate by head", copies),
    each("git: init, add, commit, checkout", git),
    each("vim: saving", vim),
    each("sed -i: saving by rename", sed),
    each("make and gcc: a project of two files", make),
    each("rsync -a", rsync),
];

/// Runs a shell script in the directory of the test, for somebody.
#[track_caller]
pub(crate) fn shell(place: &Place, who: &Who, script: &str) -> Outcome {
    shell_with(place, &who.variables(), script)
}

/// Runs a shell script in the directory of the test, with these variables.
#[track_caller]
pub(crate) fn shell_with<S: AsRef<str>>(place: &Place, variables: &[S], script: &str) -> Outcome {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-ec")
        .arg(script)
        .current_dir(&place.dir)
        .env_clear();
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "dumb");
    for variable in variables {
        let variable = variable.as_ref();
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command.env(name, value);
    }
    let caller = std::panic::Location::caller();
    let output = command.output()?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        return Err(Stop::Failed(format!(
            "{caller}: sh -ec '{script}': {}\n{text}",
            output.status
        )));
    }
    Ok(())
}

/// Skips the test unless a program is installed.
pub(crate) fn need(program: &str) -> Outcome {
    let found = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists());
    if found {
        Ok(())
    } else {
        skip(format!("{program} is not installed"))
    }
}

/// A session without a tool, so that each program is the tool.
const SESSION: &str = "PROV_SESSION=s-real";

/// Fails unless a file was written in that session by a program.
#[track_caller]
fn ensure_tool(path: impl AsRef<Path>, tool: &'static str) -> Outcome {
    ensure_by(
        path,
        &Who {
            session: "s-real",
            tool,
            turn: None,
            intent: None,
        },
    )
}

fn pipeline(place: &Place) -> Outcome {
    shell_with(
        place,
        &[SESSION],
        "seq 100 | sort -n > sorted; seq 100 | sort | uniq | cat > unique; echo x > own",
    )?;
    ensure_tool(place.path("sorted"), "sort")?;
    ensure_tool(place.path("unique"), "cat")?;
    ensure_tool(place.path("own"), "sh")?;
    shell(place, &ALICE, "seq 100 | sort -n > sorted; echo x >> own")?;
    ensure_by(place.path("sorted"), &ALICE)?;
    ensure_by(place.path("own"), &ALICE)
}

fn bash(place: &Place) -> Outcome {
    need("bash")?;
    let script = "cat > here <<X\nsome text\nX\nexec 3> three; echo x >&3; exec 3>&-; printf x > printed; cat here &> both";
    shell_with(place, &[SESSION], &format!("bash -ec '{script}'"))?;
    ensure_tool(place.path("here"), "cat")?;
    ensure_tool(place.path("three"), "bash")?;
    ensure_tool(place.path("printed"), "bash")?;
    ensure_tool(place.path("both"), "cat")?;
    // Nobody declares anything.
    shell_with(place, &[""; 0], "bash -ec 'echo x > undeclared; :'")?;
    let who = fallback(place.path("undeclared"))?;
    ensure_eq!(who.chain.first(), Some(&"bash".into()), "program");
    ensure_eq!(who.cwd, place.dir.to_str().map(Into::into), "directory");
    Ok(())
}

fn script(place: &Place) -> Outcome {
    let off = Setting::set("enabled", "0")?;
    fs::write(place.path("my-script.sh"), "#!/bin/sh\necho x > output\n")?;
    drop(off);
    shell_with(place, &[SESSION], "chmod +x my-script.sh; ./my-script.sh")?;
    ensure_tool(place.path("output"), "my-script.sh")
}

fn python(place: &Place) -> Outcome {
    need("python3")?;
    let program = "import os\nf = open(\"a\", \"w\"); f.write(\"x\"); f.flush()\ng = open(\"b\", \"w\")\nos._exit(0)";
    shell(place, &ALICE, &format!("/usr/bin/python3 -c '{program}'"))?;
    ensure_by(place.path("a"), &ALICE)?;
    ensure_by(place.path("b"), &ALICE)
}

/// A tree of files without records, and an archive of it.
fn tree(place: &Place) -> Outcome {
    let _off = Setting::set("enabled", "0")?;
    let script = "mkdir -p tree/a/b; for i in 1 2 3 4 5 6 7 8; do echo $i > tree/$i; echo $i > tree/a/b/$i; done; \
        : > tree/empty; tar cf tree.tar tree";
    shell_with(place, &[""; 0], script)
}

/// The files of that tree, somewhere.
fn files(place: &Place, top: &str) -> Vec<std::path::PathBuf> {
    let numbers = (1..=8).flat_map(|i| [format!("{top}/{i}"), format!("{top}/a/b/{i}")]);
    numbers
        .chain([format!("{top}/empty")])
        .map(|name| place.path(name))
        .collect()
}

fn tar(place: &Place) -> Outcome {
    tree(place)?;
    shell_with(
        place,
        &[SESSION],
        "mkdir out; tar xf tree.tar -C out; tar cf made.tar tree",
    )?;
    for file in files(place, "out/tree") {
        ensure_tool(file, "tar")?;
    }
    ensure_tool(place.path("made.tar"), "tar")?;
    // With the records of somebody else in the archive.
    shell_with(
        place,
        &[SESSION],
        "tar --xattrs --xattrs-include='user.*' -cf x.tar out; rm -r out",
    )?;
    shell(
        place,
        &BOB,
        "tar --xattrs --xattrs-include='user.*' -xf x.tar",
    )?;
    for file in files(place, "out/tree") {
        // It makes the file, gives it its attributes, and only then opens it: to an empty one, nothing is written.
        if !file.ends_with("empty") {
            ensure_by(file, &BOB)?;
        }
    }
    Ok(())
}

fn copies(place: &Place) -> Outcome {
    tree(place)?;
    let script = "cp -r tree copy; cp tree/1 cp; install -m 600 tree/1 install; dd if=tree/1 of=dd 2>/dev/null; \
        echo x | tee tee > /dev/null; head -c 5 tree.tar > head; mv tree/1 moved";
    shell_with(place, &[SESSION], script)?;
    for file in files(place, "copy") {
        ensure_tool(file, "cp")?;
    }
    for name in ["cp", "install", "dd", "tee", "head"] {
        ensure_tool(place.path(name), name)?;
    }
    ensure_none(place.path("moved"))
}

fn git(place: &Place) -> Outcome {
    need("git")?;
    let script = "export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a \
        GIT_COMMITTER_EMAIL=a@b; git init -q .; echo one > file; git add file; git commit -qm one; echo two > file; \
        git commit -qam two; git checkout -q HEAD~1; test \"$(cat file)\" = one; git diff --quiet; \
        test -z \"$(git status --porcelain)\"; cd /";
    shell_with(place, &[SESSION], script)?;
    ensure_tool(place.path("file"), "git")?;
    for name in [".git/HEAD", ".git/index", ".git/logs/HEAD"] {
        ensure_none(place.path(name))?;
    }
    // Where it is not skipped, it is recorded.
    let _none = Setting::set("skip", "/proc")?;
    shell(place, &ALICE, "git init -q other")?;
    ensure_by(place.path("other/.git/HEAD"), &ALICE)
}

fn vim(place: &Place) -> Outcome {
    let vim = ["vim", "vi"]
        .into_iter()
        .find(|program| need(program).is_ok());
    let Some(vim) = vim else {
        return skip("vim is not installed");
    };
    let path = place.path("file");
    shell(place, &BOB, "echo one > file")?;
    shell(
        place,
        &ALICE,
        &format!("{vim} -es -u NONE -i NONE -c '1s/one/two/' -c wq file < /dev/null"),
    )?;
    ensure!(
        fs::read_to_string(&path)?.starts_with("two"),
        "it did not save"
    );
    ensure_by(&path, &ALICE)
}

fn sed(place: &Place) -> Outcome {
    let path = place.path("file");
    shell(place, &BOB, "echo one > file")?;
    shell_with(place, &[SESSION], "sed -i s/one/two/ file")?;
    ensure_eq!(fs::read_to_string(&path)?, "two\n", "content");
    ensure_tool(&path, "sed")
}

/// Two files in C, without records, and how to make a program of them.
pub(crate) fn c_project(place: &Place) -> Outcome {
    let _off = Setting::set("enabled", "0")?;
    for (name, content) in [
        (
            "one.c",
            "int two(void);\nint main(void) { return two(); }\n",
        ),
        ("two.c", "int two(void) { return 0; }\n"),
        (
            "Makefile",
            "prog: one.o two.o\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -c -o $@ $<\nclean:\n\trm -f prog *.o\n",
        ),
    ] {
        fs::write(place.path(name), content)?;
    }
    Ok(())
}

fn make(place: &Place) -> Outcome {
    need("make")?;
    need("gcc")?;
    c_project(place)?;
    shell_with(place, &[SESSION], "make -s; ./prog")?;
    for name in ["one.o", "two.o"] {
        ensure_tool(place.path(name), "as")?;
    }
    let linker = key(place.path("prog"), "tool")?.unwrap_or_default();
    ensure!(
        linker.contains("ld"),
        "tool of the linked program is {linker:?}"
    );
    shell(place, &ALICE, "make -s clean; make -s; ./prog")?;
    for name in ["one.o", "two.o", "prog"] {
        ensure_by(place.path(name), &ALICE)?;
    }
    ensure_none(place.path("one.c"))
}

fn rsync(place: &Place) -> Outcome {
    need("rsync")?;
    tree(place)?;
    shell_with(place, &[SESSION], "rsync -a tree/ synced/")?;
    for file in files(place, "synced") {
        ensure_tool(file, "rsync")?;
    }
    Ok(())
}
