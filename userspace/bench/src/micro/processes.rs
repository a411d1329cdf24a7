//! System calls that do nothing, signals, and processes.

use std::{
    ffi::{CStr, CString},
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    ptr,
};

use rustix::{
    fs::{OFlags, open},
    io::{read, write},
    process::{chroot, getppid},
};

use super::{MODE, Place, Row, c_path};
use crate::{
    error::{Context, Error, Result},
    meter::Reading,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "null",
        about: "getppid(2)",
        ops: 50_000,
        measure: null,
    },
    Row {
        name: "null_io",
        about: "read 1 byte of /dev/zero, write 1 byte to /dev/null",
        ops: 12_000,
        measure: null_io,
    },
    Row {
        name: "signal_install",
        about: "sigaction(2)",
        ops: 30_000,
        measure: signal_install,
    },
    Row {
        name: "signal_handle",
        about: "send oneself a signal and handle it",
        ops: 4_000,
        measure: signal_handle,
    },
    Row {
        name: "fork",
        about: "fork, exit, wait, by a program of one page",
        ops: 200,
        measure: fork_exit,
    },
    Row {
        name: "exec",
        about: "fork, execute true(1), wait",
        ops: 50,
        measure: exec_true,
    },
    Row {
        name: "exec_tiny",
        about: "the same with a static program of one system call",
        ops: 100,
        measure: exec_tiny,
    },
    Row {
        name: "exec_env_4k",
        about: "the latter with 4 KiB of environment",
        ops: 100,
        measure: exec_env_4k,
    },
    Row {
        name: "exec_env_64k",
        about: "the latter with 64 KiB of environment",
        ops: 50,
        measure: exec_env_64k,
    },
    Row {
        name: "shell",
        about: "fork, execute sh -c :, wait",
        ops: 20,
        measure: shell,
    },
];

fn null(place: &Place<'_>, ops: u32) -> Result<Reading> {
    place.meter.measure(|| {
        for _ in 0..ops {
            std::hint::black_box(getppid());
        }
        Ok(())
    })
}

fn null_io(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let zero = open("/dev/zero", OFlags::RDONLY, MODE).at("open", "/dev/zero")?;
    let null = open("/dev/null", OFlags::WRONLY, MODE).at("open", "/dev/null")?;
    let mut byte = [0];
    place.meter.measure(|| {
        for _ in 0..ops {
            read(&zero, &mut byte).at("read", "/dev/zero")?;
            write(&null, &byte).at("write to", "/dev/null")?;
        }
        Ok(())
    })
}

extern "C" fn ignore(_signal: libc::c_int) {}

fn install() -> Result {
    // SAFETY: A zeroed `sigaction` is a valid one: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: The handler does nothing, so it may run at any time; `action` is valid for reading.
    let status = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()) };
    if status == 0 {
        Ok(())
    } else {
        last_error("install a signal handler")
    }
}

fn last_error<T>(doing: &'static str) -> Result<T> {
    Err(io::Error::last_os_error()).doing(doing)
}

fn signal_install(place: &Place<'_>, ops: u32) -> Result<Reading> {
    place.meter.measure(|| (0..ops).try_for_each(|_| install()))
}

fn signal_handle(place: &Place<'_>, ops: u32) -> Result<Reading> {
    install()?;
    place.meter.measure(|| {
        for _ in 0..ops {
            // SAFETY: The signal has a handler, installed above, that does nothing.
            unsafe { libc::raise(libc::SIGUSR1) };
        }
        Ok(())
    })
}

/// A child that executes nothing. It is killed when this is dropped.
pub(crate) struct Forked(libc::pid_t);

impl Forked {
    /// Runs `work` in a child of its own.
    pub(crate) fn run(work: impl FnOnce()) -> Result<Self> {
        // SAFETY: This program has a single thread, so the child finds no lock held; it never returns from here.
        match unsafe { libc::fork() } {
            -1 => last_error("fork"),
            0 => {
                work();
                // SAFETY: Ends the child at once, with nothing left to do for it.
                unsafe { libc::_exit(0) }
            }
            child => Ok(Forked(child)),
        }
    }

    /// Waits until it ends.
    pub(crate) fn wait(self) -> Result {
        let Forked(child) = self;
        std::mem::forget(self);
        reap(child)
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: It is our child and not waited for yet, so the number is still its own.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // That it was killed is no news.
        let _ = reap(self.0);
    }
}

fn reap(child: libc::pid_t) -> Result {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    if unsafe { libc::waitpid(child, &raw mut status, 0) } != child {
        return last_error("wait for a child");
    }
    if status == 0 {
        return Ok(());
    }
    Err(Error::Program {
        program: "a child".to_owned(),
        status: format!("status {status:#x}"),
        said: String::new(),
    })
}

/// Done by a program that is as small as can be: what fork takes depends on how many pages the parent has, and on where they
/// are, which differs from boot to boot for a program of some size.
fn fork_exit(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let program = write_tiny(place.programs, "forks", &fork_loop(ops))?;
    execute(place, 1, &[&program], environment(0))
}

/// Arguments or environment as execve(2) takes them.
struct Strings {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    fn new(strings: impl IntoIterator<Item = CString>) -> Self {
        let strings: Vec<_> = strings.into_iter().collect();
        let ends = std::iter::once(ptr::null());
        Strings {
            pointers: strings
                .iter()
                .map(|string| string.as_ptr())
                .chain(ends)
                .collect(),
            _strings: strings,
        }
    }
}

/// An environment of `size` bytes: what a session declares comes last, behind variables of 64 bytes each.
pub(crate) fn environment(size: usize) -> Vec<CString> {
    const DECLARED: [&CStr; 4] = [
        c"PATH=/usr/bin:/bin",
        c"HOME=/root",
        c"PROV_SESSION=01KS9ABCDEFGHJKMNPQRSTVWXY",
        c"PROV_TOOL=Edit",
    ];
    let declared: usize = DECLARED.iter().map(|text| text.count_bytes() + 1).sum();
    let filler = size.saturating_sub(declared) / 64;
    (0..filler)
        .map(|index| {
            CString::new(format!("{:x<63}", format!("FILLER_{index:05}="))).unwrap_or_default()
        })
        .chain(DECLARED.map(CStr::to_owned))
        .collect()
}

/// Executes a program of another root in place of this one; ends if that is not possible.
fn become_program(root: &CStr, arguments: &Strings, environment: &Strings) {
    let program = arguments.pointers[0];
    let (arguments, environment) = (arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    if chroot(root).is_ok() {
        // SAFETY: All are NUL-terminated, and live until the program is executed.
        unsafe { libc::execve(program, arguments, environment) };
    }
    // SAFETY: Ends the child at once; it could not execute the program.
    unsafe { libc::_exit(127) }
}

/// Executes a program `ops` times, each time in a new child: one of those in [`Place::programs`], which is its root.
pub(crate) fn execute(
    place: &Place<'_>,
    ops: u32,
    arguments: &[&CStr],
    environment: Vec<CString>,
) -> Result<Reading> {
    let arguments = Strings::new(arguments.iter().copied().map(CStr::to_owned));
    let environment = Strings::new(environment);
    let root = c_path(place.programs);
    place.meter.measure(|| {
        for _ in 0..ops {
            Forked::run(|| become_program(&root, &arguments, &environment))?.wait()?;
        }
        Ok(())
    })
}

/// Copies a program, with the libraries that it needs, to where nothing but pages in memory is needed to execute it.
///
/// The guest's own root is a folder of the host: each look at it is a request, and takes as long as the host likes.
fn copied(place: &Place<'_>, program: &str) -> Result<CString> {
    copy_libraries(place.programs)?;
    let name = Path::new(program).file_name().unwrap_or_default();
    copy(Path::new(program), &place.programs.join(name))?;
    Ok(in_root(name))
}

/// What executes dynamically linked programs, and what says where their libraries are.
const LINKER: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/etc/ld.so.cache"];

/// Copies the libraries of this very program, the C library among them, to the same places below another root.
fn copy_libraries(root: &Path) -> Result {
    for link in ["lib", "lib64"] {
        let (at, to) = (root.join(link), fs::read_link(Path::new("/").join(link)));
        if let (false, Ok(to)) = (at.is_symlink(), to) {
            fs::create_dir_all(root.join(&to)).at("make", root.join(&to))?;
            std::os::unix::fs::symlink(to, &at).at("make", at)?;
        }
    }
    let maps = fs::read_to_string("/proc/self/maps").at("read", "/proc/self/maps")?;
    let mapped = maps
        .lines()
        .filter_map(|line| Some(&line[line.find('/')?..]))
        .filter(|path| path.contains(".so"));
    for library in mapped.chain(LINKER) {
        copy(Path::new(library), &below(root, library))?;
    }
    Ok(())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Copies a file that exists, unless it was copied already.
fn copy(file: &Path, to: &Path) -> Result {
    if to.exists() || !file.exists() {
        return Ok(());
    }
    let dir = to.parent().unwrap_or(to);
    fs::create_dir_all(dir).at("make", dir)?;
    fs::copy(file, to).map(drop).at("copy", file)
}

/// The path of a program in a root where it lies on top.
fn in_root(name: impl AsRef<Path>) -> CString {
    c_path(&Path::new("/").join(name))
}

/// Writes a program that consists of this machine code; returns its path in that root.
fn write_tiny(programs: &Path, name: &str, code: &[u8]) -> Result<CString> {
    let path: PathBuf = programs.join(name);
    if !path.exists() {
        fs::write(&path, tiny_elf(code)).at("write", &path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).at("make executable", &path)?;
    }
    Ok(in_root(name))
}

/// Writes a program that does nothing but end.
pub(crate) fn tiny(place: &Place<'_>) -> Result<CString> {
    write_tiny(place.programs, "tiny", &one_call(EXIT))
}

/// Starts processes that each execute a program and then sleep until they are dropped.
pub(crate) fn sleepers(programs: &Path, count: usize) -> Result<Vec<Forked>> {
    let program = write_tiny(programs, "sleeper", &one_call(PAUSE))?;
    let arguments = Strings::new([program]);
    let environment = Strings::new(environment(0));
    let root = c_path(programs);
    (0..count)
        .map(|_| Forked::run(|| become_program(&root, &arguments, &environment)))
        .collect()
}

/// `_exit(2)` on x86-64.
const EXIT: u32 = 60;

/// `pause(2)` on x86-64.
const PAUSE: u32 = 34;

/// Machine code for one system call without arguments.
fn one_call(number: u32) -> Vec<u8> {
    let mut code = vec![0x31, 0xff]; // xor edi, edi
    code.push(0xb8); // mov eax, number
    code.extend(number.to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code
}

/// Machine code that forks so many times, waits for each child, and ends.
fn fork_loop(times: u32) -> Vec<u8> {
    let mut code = vec![0xbb]; // mov ebx, times
    code.extend(times.to_le_bytes());
    code.extend([0xb8, 57, 0, 0, 0, 0x0f, 0x05]); // again: fork()
    code.extend([0x85, 0xc0, 0x74, 23]); // the child goes to the end
    code.extend([0xbf, 0xff, 0xff, 0xff, 0xff]); // mov edi, -1
    code.extend([0x31, 0xf6, 0x31, 0xd2, 0x4d, 0x31, 0xd2]); // the other arguments are 0
    code.extend([0xb8, 61, 0, 0, 0, 0x0f, 0x05]); // wait4(-1, 0, 0, 0)
    code.extend([0xff, 0xcb, 0x75, 0xde]); // dec ebx; jnz again
    code.extend(one_call(EXIT));
    code
}

/// A program for x86-64: an ELF header, one program header (see elf(5)), and the code.
fn tiny_elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2_u16, 0x3e].map(u16::to_le_bytes).concat());
    elf.extend(1_u32.to_le_bytes());
    elf.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(0_u32.to_le_bytes());
    elf.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    elf.extend(
        [0, BASE, BASE, size, size, 0x1000]
            .map(u64::to_le_bytes)
            .concat(),
    );
    elf.extend(code);
    elf
}

fn exec_true(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let program = copied(place, "/bin/true")?;
    execute(place, ops, &[&program], environment(0))
}

fn exec_tiny(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let program = tiny(place)?;
    execute(place, ops, &[&program], environment(0))
}

fn exec_env_4k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let program = tiny(place)?;
    execute(place, ops, &[&program], environment(4 << 10))
}

fn exec_env_64k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let program = tiny(place)?;
    execute(place, ops, &[&program], environment(64 << 10))
}

fn shell(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let program = copied(place, "/bin/sh")?;
    execute(place, ops, &[&program, c"-c", c":"], environment(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_program_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny");
        fs::write(&path, tiny_elf(&one_call(EXIT))).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(std::process::Command::new(path).status().unwrap().success());
    }

    #[test]
    fn another_root_has_what_dynamically_linked_programs_need() {
        let dir = tempfile::tempdir().unwrap();
        copy_libraries(dir.path()).unwrap();
        copy_libraries(dir.path()).unwrap();
        for file in LINKER {
            assert_eq!(
                below(dir.path(), file).exists(),
                Path::new(file).exists(),
                "{file}"
            );
        }
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let library = maps.lines().find(|line| line.contains("/libc.so")).unwrap();
        let library = &library[library.find('/').unwrap()..];
        assert_eq!(
            fs::read(below(dir.path(), library)).unwrap(),
            fs::read(library).unwrap()
        );
    }

    #[test]
    fn the_program_that_forks_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forks");
        fs::write(&path, tiny_elf(&fork_loop(7))).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(std::process::Command::new(path).status().unwrap().success());
    }

    #[test]
    fn environments_have_the_size_that_is_asked_for() {
        for size in [4 << 10, 64 << 10, 128 << 10] {
            let bytes: usize = environment(size)
                .iter()
                .map(|text| text.as_bytes_with_nul().len())
                .sum();
            assert!(bytes <= size && bytes > size - 64, "{bytes} of {size}");
        }
        assert_eq!(environment(0).len(), 4);
    }
}
