//! Counts instructions of the whole machine.
//!
//! With `-icount shift=0,sleep=off` guest time advances by a nanosecond for each instruction, so `CLOCK_MONOTONIC` counts
//! them. It also advances, by leaps, while the processor is idle. So it is kept from being idle: a child at the lowest
//! priority spins whenever nobody else has work, and its processor time is taken off. What is left is the work of everybody
//! else: the caller, threads of the kernel, daemons.
//!
//! Work that is put off belongs to the operation that caused it: after the operations are done, what is dirty is written
//! back, and what still runs behind has time until [`SETTLE`] is over. The same without any operation is taken off.

use std::{
    env,
    process::{Child, Command},
    time::Duration,
};

use rustix::{
    fs::sync,
    process::{Pid, Signal, kill_process},
    time::{ClockId, clock_gettime},
};

use crate::error::{Context, Error, Result};

/// How long deferred work may take after everything is on disk: three ticks, so that RCU callbacks are through and queues
/// of work are empty.
const SETTLE: Duration = Duration::from_millis(12);

/// What is left between two measurements to what the one before has set going.
const PAUSE: Duration = Duration::from_millis(40);

/// Instructions that something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Until the operations returned.
    pub(crate) foreground: i64,
    /// Until what they have set going was done too.
    pub(crate) total: i64,
}

/// The child that keeps the processor busy.
struct Spinner {
    child: Child,
    clock: libc::clockid_t,
}

impl Spinner {
    fn start() -> Result<Self> {
        let program = env::current_exe().doing("find the path of this program")?;
        let child = Command::new(&program)
            .arg("spin")
            .spawn()
            .at("execute", &program)?;
        let mut clock = 0;
        // SAFETY: `clock` is valid for writing for the duration of the call.
        let status = unsafe {
            libc::clock_getcpuclockid(
                Pid::from_child(&child).as_raw_nonzero().get(),
                &raw mut clock,
            )
        };
        let spinner = Spinner { child, clock };
        if status != 0 {
            return Err(std::io::Error::from_raw_os_error(status))
                .doing("find the clock of the spinning child");
        }
        spinner.pause()?;
        Ok(spinner)
    }

    fn signal(&self, signal: Signal) -> Result {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).doing("signal the spinning child")
    }

    fn pause(&self) -> Result {
        self.signal(Signal::STOP)
    }

    fn resume(&self) -> Result {
        self.signal(Signal::CONT)
    }

    /// Instructions it has spun for.
    fn spun(&self) -> i64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is valid for writing for the duration of the call.
        let status = unsafe { libc::clock_gettime(self.clock, &raw mut time) };
        // The child lives as long as `self`, so its clock exists.
        debug_assert_eq!(status, 0);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It has nothing to lose, and nobody to tell if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the calling thread scheduled in another way.
fn schedule(policy: libc::c_int, priority: libc::c_int) -> Result {
    // SAFETY: A zeroed `sched_param` is a valid one.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: `parameters` is valid for the duration of the call.
    let status = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if status != 0 {
        return Err(Error::Call {
            doing: "be scheduled in another way",
            source: std::io::Error::last_os_error(),
        });
    }
    Ok(())
}

/// As long as this exists, the calling thread and what it forks then run until they wait for something.
///
/// Two processes that wait for each other are otherwise subject to what the scheduler thinks is fair: that depends on the
/// instructions they took before, and makes a difference of one in a hundred from one boot to the next.
pub(crate) struct InTurn;

impl InTurn {
    /// Begins it.
    pub(crate) fn begin() -> Result<Self> {
        schedule(libc::SCHED_FIFO, 1)?;
        Ok(InTurn)
    }
}

impl Drop for InTurn {
    fn drop(&mut self) {
        // What could be raised can be lowered.
        let _ = schedule(libc::SCHED_OTHER, 0);
    }
}

/// Spins at the lowest priority until it is killed.
pub(crate) fn spin() -> Result<std::convert::Infallible> {
    schedule(libc::SCHED_IDLE, 0)?;
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Measures.
pub(crate) struct Meter {
    spinner: Spinner,
    empty: Reading,
}

impl Meter {
    /// Starts the child that keeps the processor busy.
    pub(crate) fn new() -> Result<Self> {
        let mut meter = Meter {
            spinner: Spinner::start()?,
            empty: Reading {
                foreground: 0,
                total: 0,
            },
        };
        meter.calibrate()?;
        Ok(meter)
    }

    /// Finds out what it takes to measure nothing. To be done again when that may have changed: when a daemon was started,
    /// or when another file system is in use.
    pub(crate) fn calibrate(&mut self) -> Result {
        self.empty = Reading {
            foreground: 0,
            total: 0,
        };
        let mut nothing = Vec::new();
        for _ in 0..9 {
            nothing.push(self.measure(|| Ok(()))?);
        }
        let median = |key: fn(&Reading) -> i64| {
            let mut values: Vec<_> = nothing.iter().map(key).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        self.empty = Reading {
            foreground: median(|reading| reading.foreground),
            total: median(|reading| reading.total),
        };
        Ok(())
    }

    /// What it takes to measure nothing: the floor of what can be told apart.
    pub(crate) fn empty(&self) -> Reading {
        self.empty
    }

    /// Counts the instructions of `work`.
    pub(crate) fn measure(&self, work: impl FnOnce() -> Result) -> Result<Reading> {
        sync();
        // With nothing to do, time leaps: this pause is free.
        std::thread::sleep(PAUSE);
        sync();
        self.spinner.resume()?;
        let start = self.busy();
        let worked = work();
        let done = self.busy();
        sync();
        std::thread::sleep(SETTLE);
        sync();
        let settled = self.busy();
        self.spinner.pause()?;
        worked?;
        Ok(Reading {
            foreground: done - start - self.empty.foreground,
            total: settled - start - self.empty.total,
        })
    }

    /// Instructions so far that were not spun away.
    fn busy(&self) -> i64 {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec * 1_000_000_000 + now.tv_nsec - self.spinner.spun()
    }
}

/// Lets guest time pass without counting; it costs nothing, since idle time leaps.
pub(crate) fn pass_time(duration: Duration) {
    std::thread::sleep(duration);
}
