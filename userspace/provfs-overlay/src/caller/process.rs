//! Finds out who a process is, from `/proc`, and remembers it for as long as that holds.
//!
//! A request names a thread by number. Numbers are used again and a process can execute another
//! program, so what is remembered is checked each time: the file `stat` in `/proc` that was opened
//! for the thread belongs to that thread for ever, start time and place of the environment tell one
//! program from the next.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    sync::Arc,
};

use parking_lot::Mutex;
use provfs::pure::{
    environ::{Declared, Kind, NameList, Wanted, search_slice},
    fallback::stops_chain,
};

use super::{
    credentials::Rights,
    environ::{self, Awaited, Environment},
    identity::{Identity, Known},
};

/// How many comms a fallback session has at most.
const CHAIN_MAX: usize = 3;

/// How many processes are remembered. Each takes a descriptor.
const REMEMBERED: usize = 256;

/// With so many, and each time that they have doubled, those that have ended are forgotten.
const SWEPT: usize = 8;

/// Longest `/proc/PID/stat`: 52 numbers and a comm.
const STAT_MAX: usize = 1536;

/// The process behind a request.
#[derive(Debug)]
pub struct Process {
    stat: Option<File>,
    mark: Mark,
    /// User and group of the request, which are those of the file system.
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    declared: Declared,
    /// What it declares could not be read in time.
    awaited: Option<Arc<Awaited>>,
    /// Who it is.
    pub identity: Arc<Identity>,
}

impl Process {
    /// The rights that operations for it have.
    pub fn rights(&self) -> Rights<'_> {
        Rights {
            uid: self.uid,
            gid: self.gid,
            groups: &self.groups,
        }
    }

    /// The mark that it has now. `None` when it is gone.
    fn mark_now(&self) -> Option<Mark> {
        let mut buf = [0; STAT_MAX];
        let len = self.stat.as_ref()?.read_at(&mut buf, 0).ok()?;
        Some(Stat::parse(buf.get(..len)?)?.mark)
    }
}

/// What a program that runs is told by.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mark {
    /// When the thread was started, in clock ticks since boot.
    started: u64,
    /// Where its environment begins, which differs with each program that is executed. 0 if that
    /// cannot be seen, or is no more since the process is exiting.
    environ: u64,
    comm: Vec<u8>,
}

/// What `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    mark: Mark,
}

impl Stat {
    /// See `proc_pid_stat(5)`. The comm may hold anything, so its end is the last parenthesis.
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        let rest = text.get(close + 1..)?.trim_ascii();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
        let mut fields = rest.split(|&byte| byte == b' ');
        // The first one behind the comm is number 3.
        let parent = u32::try_from(number(fields.nth(4 - 3)?)?).ok()?;
        let started = number(fields.nth(22 - 5)?)?;
        // Number 50 of 52.
        let environ = rest.rsplit(|&byte| byte == b' ').nth(52 - 50);
        let environ = environ.and_then(number).unwrap_or(0);
        Some(Stat {
            parent,
            mark: Mark {
                started,
                environ,
                comm,
            },
        })
    }

    fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// What `/proc/PID/status` says.
#[derive(Debug, Default, PartialEq)]
struct Status {
    process: u32,
    parent: u32,
    uid: u32,
    groups: Vec<u32>,
}

impl Status {
    fn parse(text: &str) -> Self {
        let mut status = Status::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let mut numbers = value
                .split_ascii_whitespace()
                .filter_map(|number| number.parse::<u32>().ok());
            match name {
                "Tgid" => status.process = numbers.next().unwrap_or(0),
                "PPid" => status.parent = numbers.next().unwrap_or(0),
                "Uid" => status.uid = numbers.next().unwrap_or(0),
                "Groups" => {
                    status.groups = numbers.collect();
                    break;
                }
                _ => {}
            }
        }
        status
    }

    fn of(tid: u32) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{tid}/status")).ok()?;
        // The name of the process comes first and may hold anything but a newline.
        Some(Self::parse(&String::from_utf8_lossy(&text)))
    }
}

/// Names of environment variables, by kind, as checked text.
#[derive(Clone, Debug)]
pub struct EnvNames([Vec<u8>; Kind::ALL.len()]);

impl Default for EnvNames {
    fn default() -> Self {
        EnvNames(Kind::ALL.map(|kind| kind.default_names().to_vec()))
    }
}

impl EnvNames {
    /// Sets the names of one kind.
    pub fn set(
        &mut self,
        kind: Kind,
        text: &[u8],
    ) -> Result<(), provfs::pure::environ::NameListError> {
        NameList::parse(text)?;
        if let Some(names) = self.0.get_mut(kind.index()) {
            *names = text.to_vec();
        }
        Ok(())
    }

    fn wanted(&self) -> Wanted<'_> {
        let list = |kind: Kind| {
            let text = self.0.get(kind.index()).map_or(&b""[..], Vec::as_slice);
            // It was checked when it was set.
            NameList::parse(text).unwrap_or(NameList::EMPTY)
        };
        Wanted {
            session: list(Kind::Session),
            tool: list(Kind::Tool),
            turn: list(Kind::Turn),
            intent: list(Kind::Intent),
        }
    }
}

/// The processes that have asked for something.
#[derive(Debug)]
pub struct Callers {
    names: EnvNames,
    remembered: Mutex<Remembered>,
}

/// The processes that are known, by thread.
#[derive(Debug, Default)]
struct Remembered {
    by_thread: HashMap<u32, Arc<Process>>,
    /// How many were left when those that had ended were forgotten.
    left: usize,
}

impl Remembered {
    fn add(&mut self, tid: u32, process: Arc<Process>) {
        if self.by_thread.len() >= SWEPT.max(2 * self.left) {
            self.by_thread
                .retain(|_, process| process.mark_now().is_some());
            self.left = self.by_thread.len();
        }
        if self.left >= REMEMBERED {
            self.by_thread.clear();
            self.left = 0;
        }
        self.by_thread.insert(tid, process);
    }
}

impl Callers {
    /// Nobody is known yet.
    pub fn new(names: EnvNames) -> Self {
        Callers {
            names,
            remembered: Mutex::default(),
        }
    }

    /// The process behind a request.
    pub fn of(&self, request: &fuser::Request) -> Arc<Process> {
        self.process(request.pid(), request.uid(), request.gid(), None)
    }

    /// The process behind a request to close a file. It may be exiting, with no environment any more:
    /// one that was not seen before is taken to declare what the one does that opened the file.
    pub fn closing(&self, request: &fuser::Request, opener: Option<&Process>) -> Arc<Process> {
        self.process(request.pid(), request.uid(), request.gid(), opener)
    }

    fn process(&self, tid: u32, uid: u32, gid: u32, opener: Option<&Process>) -> Arc<Process> {
        let before = self.remembered.lock().by_thread.get(&tid).cloned();
        let now = before.as_ref().and_then(|process| process.mark_now());
        let mut claims = None;
        let known = before.as_ref().zip(now.as_ref());
        let known = known.filter(|(process, now)| process.mark.started == now.started);
        if let Some((process, now)) = known {
            let same_program = process.mark.environ == now.environ;
            // A process that exits has no environment any more, and closes files still.
            let exiting = now.environ == 0;
            let same_name = process.mark.comm == now.comm;
            let same_rights = process.uid == uid && process.gid == gid;
            let may_claim = same_program || exiting;
            match process.awaited.as_ref().map(|awaited| awaited.get()) {
                Some(Some(block)) if may_claim => claims = Some(self.declared(&block)),
                _ if same_rights && (same_program || exiting && same_name) => {
                    return process.clone();
                }
                None if may_claim => claims = Some(process.declared.clone()),
                _ => {}
            }
        }
        let process = Arc::new(self.find_out(tid, uid, gid, claims, opener));
        self.remembered.lock().add(tid, process.clone());
        process
    }

    fn find_out(
        &self,
        tid: u32,
        uid: u32,
        gid: u32,
        claims: Option<Declared>,
        opener: Option<&Process>,
    ) -> Process {
        let mut stat = (tid != 0)
            // Under `task` the kernel does not add up the times of all threads.
            .then(|| File::open(format!("/proc/{tid}/task/{tid}/stat")).ok())
            .flatten();
        let mark = stat
            .as_mut()
            .and_then(|file| {
                let mut text = Vec::with_capacity(STAT_MAX);
                file.read_to_end(&mut text).ok()?;
                Stat::parse(&text)
            })
            .map(|stat| stat.mark)
            .unwrap_or_default();
        let status = (tid != 0).then(|| Status::of(tid)).flatten();

        let (declared, awaited) = match (claims, opener) {
            (Some(claims), _) => (claims, None),
            (None, Some(opener)) if mark.environ == 0 => (opener.declared.clone(), None),
            (None, _) if tid == 0 => (Declared::new(), None),
            (None, _) => match environ::of(tid) {
                Environment::Read(block) => (self.declared(&block), None),
                Environment::Awaited(awaited) => (Declared::new(), Some(awaited)),
            },
        };
        let known = match &status {
            Some(status) => known(tid, status, &mark),
            // It is gone, or in another pid namespace.
            None => Known {
                pid: tid,
                uid,
                ..Known::default()
            },
        };
        Process {
            stat,
            mark,
            uid,
            gid,
            groups: status.map(|status| status.groups).unwrap_or_default(),
            identity: Arc::new(Identity::new(&known, &declared)),
            declared,
            awaited,
        }
    }

    /// What an environment says.
    fn declared(&self, environment: &[u8]) -> Declared {
        let mut declared = Declared::new();
        search_slice(&self.names.wanted(), &mut declared, environment);
        declared
    }
}

fn known(tid: u32, status: &Status, mark: &Mark) -> Known {
    let comm = if tid == status.process {
        mark.comm.clone()
    } else {
        // The name of a thread is its own.
        Stat::of(status.process).map_or_else(|| mark.comm.clone(), |stat| stat.mark.comm)
    };
    let mut chain = vec![comm];
    let mut parent = status.parent;
    while chain.len() < CHAIN_MAX {
        let Some(stat) = (parent > 2).then(|| Stat::of(parent)).flatten() else {
            break;
        };
        if stops_chain(parent, &stat.mark.comm) {
            break;
        }
        chain.push(stat.mark.comm);
        parent = stat.parent;
    }
    let cwd = std::fs::read_link(format!("/proc/{tid}/cwd"))
        .ok()
        .map(|cwd| cwd.as_os_str().as_bytes().to_vec());
    Known {
        pid: status.process,
        uid: status.uid,
        chain,
        cwd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_any_comm() {
        let numbers: Vec<String> = (3..=52).map(|number: u32| number.to_string()).collect();
        let text = format!("77 (a) (b\n) R {}\n", numbers[1..].join(" "));
        let stat = Stat::parse(text.as_bytes()).unwrap();
        assert_eq!(stat.mark.comm, b"a) (b\n");
        assert_eq!(stat.parent, 4);
        assert_eq!((stat.mark.started, stat.mark.environ), (22, 50));
        assert!(Stat::parse(b"77 (a").is_none());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn status_has_the_real_user_and_all_groups() {
        let text = "Name:\tUid: 7\nTgid:\t5\nPid:\t6\nPPid:\t4\nUid:\t1000\t0\t0\t0\nGid:\t1\t1\t1\t1\nGroups:\t4 24 27 \nUid:\t9\n";
        let status = Status::parse(text);
        assert_eq!(
            status,
            Status {
                process: 5,
                parent: 4,
                uid: 1000,
                groups: vec![4, 24, 27]
            }
        );
    }

    #[test]
    fn this_process_is_found_and_remembered() {
        let callers = Callers::new(EnvNames::default());
        let tid = std::process::id();
        let first = callers.process(tid, 0, 0, None);
        assert!(Arc::ptr_eq(&first, &callers.process(tid, 0, 0, None)));
        assert!(!Arc::ptr_eq(&first, &callers.process(tid, 1000, 0, None)));
        let comm = std::fs::read("/proc/self/comm").unwrap();
        assert_eq!(first.identity.comm, comm.trim_ascii_end());
    }

    #[test]
    fn processes_that_have_ended_are_forgotten() {
        let callers = Callers::new(EnvNames::default());
        let own = std::process::id();
        callers.process(own, 0, 0, None);
        for _ in 0..100 {
            let mut child = std::process::Command::new("true").spawn().unwrap();
            callers.process(child.id(), 0, 0, None);
            child.wait().unwrap();
        }
        let remembered = callers.remembered.lock();
        assert!(remembered.by_thread.len() <= SWEPT);
        assert!(remembered.by_thread.contains_key(&own));
    }

    #[test]
    fn a_thread_has_the_name_of_its_process() {
        let name = std::thread::Builder::new().name("other".into());
        let seen = name.spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            Callers::new(EnvNames::default()).process(tid.unsigned_abs(), 0, 0, None)
        });
        let comm = std::fs::read("/proc/self/comm").unwrap();
        let process = seen.unwrap().join().unwrap();
        assert_eq!(process.identity.comm, comm.trim_ascii_end());
    }

    #[test]
    fn what_a_program_declares_is_found_until_it_executes_another() {
        let callers = Callers::new(EnvNames::default());
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                "echo; read a; PROV_SESSION=s-2 exec sh -c 'echo; read b'",
            ])
            .env("PROV_SESSION", "s-1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let session = || callers.process(pid, 0, 0, None).identity.session.clone();
        let mut output = child.stdout.take().unwrap();
        // `spawn` returns in the middle of exec, when the new environment has no place yet. A
        // program that says something has one.
        let mut wait_for_program = || output.read_exact(&mut [0]).unwrap();
        wait_for_program();
        assert_eq!(session(), b"s-1");
        use std::io::Write;
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"\n").unwrap();
        wait_for_program();
        assert_eq!(session(), b"s-2");
        drop(input);
        child.wait().unwrap();
        // It is gone, and its number may be somebody else's.
        assert_eq!(callers.process(pid, 0, 0, None).identity.comm, b"");
    }
}
