//! Keeps the processor busy at the lowest priority, and says for how much of the time it did.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::AsFd,
    process::{Child, ChildStdout, Command, Stdio},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap},
    process::{Pid, Signal, kill_process},
};

use crate::{
    error::{Context, Result},
    meter::{now, schedule},
};

/// How long it spins alone to find out how long a turn takes.
const CALIBRATION: Duration = Duration::from_millis(200);

/// A child that spins whenever nobody else has work.
///
/// It counts its turns. Its processor time would also have in it the interrupts that come while it spins: what a disk
/// has to say when it is done is work of those who wrote, and whether it comes then or earlier is up to the host.
pub(crate) struct Spinner {
    child: Child,
    turns: Turns,
    /// Instructions of a turn, and of the timer's ticks meanwhile.
    turn: f64,
}

impl Spinner {
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().doing("find the path of this program")?;
        let memory = memfd_create("turns", MemfdFlags::CLOEXEC).doing("make a file in memory")?;
        ftruncate(&memory, Turns::SIZE as u64).doing("lengthen a file in memory")?;
        let turns = Turns::map(&memory)?;
        let mut child = Command::new(&program)
            .arg("spin")
            .stdin(File::from(memory))
            .stdout(Stdio::piped())
            .spawn()
            .at("execute", &program)?;
        let ready = child.stdout.take();
        let mut spinner = Spinner {
            child,
            turns,
            turn: 0.0,
        };
        await_line(ready).doing("wait for the spinning child")?;
        spinner.turn = spinner.calibrate();
        spinner.pause()?;
        Ok(spinner)
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 instructions take weeks")]
    fn calibrate(&self) -> f64 {
        let (start, before) = (now(), self.turns.taken());
        std::thread::sleep(CALIBRATION);
        (now() - start) as f64 / (self.turns.taken() - before) as f64
    }

    fn signal(&self, signal: Signal) -> Result {
        kill_process(Pid::from_child(&self.child), signal).doing("signal the spinning child")
    }

    pub(crate) fn pause(&self) -> Result {
        self.signal(Signal::STOP)
    }

    pub(crate) fn resume(&self) -> Result {
        self.signal(Signal::CONT)
    }

    /// Instructions it has spun for.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "2^53 instructions take weeks"
    )]
    pub(crate) fn spun(&self) -> i64 {
        (self.turns.taken() as f64 * self.turn) as i64
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It has nothing to lose, and nobody to tell if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn await_line(output: Option<ChildStdout>) -> io::Result<()> {
    let output = output.ok_or_else(|| io::Error::other("no pipe"))?;
    match BufReader::new(output).read_line(&mut String::new())? {
        0 => Err(io::Error::other("it is gone")),
        _ => Ok(()),
    }
}

/// The child: counts its turns in the memory that is its input, until it is killed.
pub(crate) fn spin() -> Result<std::convert::Infallible> {
    schedule(libc::SCHED_IDLE, 0)?;
    let turns = Turns::map(&io::stdin())?;
    println!("spinning");
    let mut turn = 0;
    loop {
        turn += 1;
        turns.0.store(turn, Ordering::Relaxed);
    }
}

/// A counter in memory that two processes share.
struct Turns(&'static AtomicU64);

impl Turns {
    const SIZE: usize = size_of::<AtomicU64>();

    /// Maps a file of that size, for as long as this process runs.
    fn map(memory: &impl AsFd) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses an address that nothing else uses.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                Self::SIZE,
                access,
                MapFlags::SHARED,
                memory,
                0,
            )
        }
        .doing("map a file in memory")?;
        // SAFETY: A page is aligned for it, is as long as the file, is never unmapped, and both processes only use it as
        // an atomic counter.
        Ok(Turns(unsafe { AtomicU64::from_ptr(address.cast()) }))
    }

    fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
