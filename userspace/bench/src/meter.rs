//! Counts instructions of the whole machine.
//!
//! With `-icount shift=0,sleep=off` guest time advances by a nanosecond for each instruction, so `CLOCK_MONOTONIC` counts
//! them. It also advances, by leaps, while the processor is idle. So it is kept from being idle: a child at the lowest
//! priority spins whenever nobody else has work, and what it spins is taken off. What is left is the work of everybody
//! else: the caller, threads of the kernel, daemons, interrupts.
//!
//! Work that is put off belongs to the operation that caused it: after the operations are done, what is dirty is written
//! back, and what still runs behind has time until [`SETTLE`] is over. The same without any operation is taken off.

use std::time::Duration;

use rustix::{
    fs::sync,
    time::{ClockId, clock_gettime},
};

use crate::{
    error::{Error, Result},
    spinner::Spinner,
};

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

/// Has the calling thread scheduled in another way.
pub(crate) fn schedule(policy: libc::c_int, priority: libc::c_int) -> Result {
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

/// Guest time, which is instructions.
pub(crate) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
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
        now() - self.spinner.spun()
    }
}

/// Lets guest time pass without counting; it costs nothing, since idle time leaps.
pub(crate) fn pass_time(duration: Duration) {
    std::thread::sleep(duration);
}
