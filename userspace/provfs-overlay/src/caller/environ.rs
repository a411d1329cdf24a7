//! The environment of another process, without waiting for that process for long.
//!
//! To read it takes the lock of that process' memory, which a thread of it can hold until we answer
//! another request: one that unmaps what it has written waits for us to write that. With all threads of
//! this program waiting in turn, nobody would ever be answered. So a thread of its own reads, and who
//! asked goes on when that takes too long. (Pages that were mapped from a file, which may be one of
//! ours, the kernel does not read.)

use std::{
    fs::File,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use provfs::pure::limits::ENV_MAX;

/// How long who asks is kept waiting. A machine with much to do reads it within milliseconds; where
/// this passes, the process waits for us.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many may be read at a time. One that hangs takes a thread until it goes on.
const READERS_MAX: usize = 64;

/// More than the few pages of almost all programs. The end counts, as it does in the kernel.
const LEN_MAX: u64 = 16 * ENV_MAX as u64;

/// An environment.
#[derive(Debug)]
pub(super) enum Environment {
    /// The block of variables, each ends with a zero byte. Empty when this process may not look at it.
    Read(Vec<u8>),
    /// It is still being read.
    Awaited(Arc<Awaited>),
}

/// An environment that may have been read by now.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    block: Mutex<Option<Vec<u8>>>,
    there: Condvar,
}

impl Awaited {
    /// The block of variables, once it was read.
    pub(super) fn get(&self) -> Option<Vec<u8>> {
        self.block.lock().clone()
    }

    fn set(&self, block: Vec<u8>) {
        *self.block.lock() = Some(block);
        self.there.notify_all();
    }

    /// The same, waited for.
    fn wait(&self) -> Option<Vec<u8>> {
        let mut block = self.block.lock();
        self.there
            .wait_while_for(&mut block, |block| block.is_none(), PATIENCE);
        block.clone()
    }
}

static READERS: AtomicUsize = AtomicUsize::new(0);

/// Counts a thread that reads.
struct Reader(&'static AtomicUsize);

impl Reader {
    fn new(readers: &'static AtomicUsize) -> Option<Self> {
        let one_more = |readers| (readers < READERS_MAX).then_some(readers + 1);
        readers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
            .then_some(Reader(readers))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the program of a thread was executed with. Waits for two seconds at most.
pub(super) fn of(tid: u32) -> Environment {
    let Some(reader) = Reader::new(&READERS) else {
        log::info!("process {tid}: too many environments are being read");
        return Environment::Read(Vec::new());
    };
    let awaited = Arc::new(Awaited::default());
    let answer = awaited.clone();
    let started = thread::Builder::new()
        .name("environ".into())
        .stack_size(64 << 10)
        .spawn(move || {
            let _reader = reader;
            answer.set(read(tid));
        });
    if let Err(error) = started {
        log::info!("process {tid}: no thread to read its environment: {error}");
        return Environment::Read(Vec::new());
    }
    match awaited.wait() {
        Some(block) => Environment::Read(block),
        None => {
            log::info!("process {tid}: waits for us with its environment");
            Environment::Awaited(awaited)
        }
    }
}

fn read(tid: u32) -> Vec<u8> {
    let mut block = Vec::new();
    // A process that this one may not look at declares nothing to it.
    if let Ok(file) = File::open(format!("/proc/{tid}/environ")) {
        let _ = file.take(LEN_MAX).read_to_end(&mut block);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_read_and_no_more() {
        static OURS: AtomicUsize = AtomicUsize::new(0);
        let mut all: Vec<_> = (0..READERS_MAX).map(|_| Reader::new(&OURS)).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(Reader::new(&OURS).is_none());
        all.pop();
        assert!(Reader::new(&OURS).is_some());
    }
}
