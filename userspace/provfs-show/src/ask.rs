//! Asks many files at once and hands on the answers in the order of the files.
//!
//! One thread walks and sends files off in batches; as many as there are processors read records
//! and drop what is not wanted; the caller gets the answers, batch after batch. The number of
//! batches under way is bounded, so memory does not depend on the number of files.

use std::{
    error::Error,
    ffi::OsStr,
    io, mem,
    num::NonZero,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread,
};

use provfs::{ReadError, Reader, Record};
use rustix::io::Errno;

use crate::{
    question::Question,
    verify::{Check, Times},
    walk::{Entry, Found},
};

/// Files in the first batch: few, so that the first answers come at once. Each has twice as many as
/// the one before.
const BATCH_MIN: usize = 16;

/// Files in a batch at most: so many that handing it over costs little, and that two threads are
/// seldom in the same folder, where the kernel has them share what it caches of it.
const BATCH_MAX: usize = 512;

/// Batches under way for each thread that reads.
const AHEAD: usize = 2;

/// More threads than this only wait for the disk or each other.
const THREADS_MAX: usize = 16;

/// What is known of a file that is to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) path: PathBuf,
    /// At least the fields that were asked for.
    pub(crate) record: Option<Record>,
    pub(crate) check: Option<Check>,
}

/// What became of a file that was asked.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// To be shown.
    Answer {
        /// What was made of it.
        made: T,
        /// It has a record.
        stamped: bool,
    },
    /// It could not be asked; why, for people.
    Failure(String),
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Outcomes<T> {
    pub(crate) list: Vec<Outcome<T>>,
    /// What `make` wrote, one answer behind the other: a buffer for all is cheaper than one each.
    pub(crate) text: Vec<u8>,
}

/// Files on their way to whoever reads their records. Their paths lie in one buffer: what one
/// thread allocates for each and another frees is slow for both.
#[derive(Default)]
struct Batch {
    paths: Vec<u8>,
    found: Vec<Result<Entry<Range<usize>>, String>>,
}

impl Batch {
    fn push(&mut self, found: Found<'_>) {
        self.found.push(found.map(|entry| {
            entry.map_path(|path| {
                let begin = self.paths.len();
                self.paths.extend_from_slice(path.as_os_str().as_bytes());
                begin..self.paths.len()
            })
        }));
    }

    fn each(self, mut take: impl FnMut(Found<'_>)) {
        let path = |range| {
            let path = self.paths.get(range).unwrap_or_default();
            Path::new(OsStr::from_bytes(path))
        };
        for found in self.found {
            take(found.map(|entry| entry.map_path(path)));
        }
    }
}

/// A batch, and where its outcomes go.
type Task<T> = (Batch, Sender<Outcomes<T>>);

/// Hands the outcomes of each batch to `take`, until it says `false` or fails. `make` turns an
/// answer into what `take` needs of it; it runs where the file is read.
pub(crate) fn ask<T: Send>(
    question: &Question,
    make: impl Fn(&mut Vec<u8>, Answer) -> T + Sync,
    mut take: impl FnMut(Outcomes<T>) -> io::Result<bool>,
) -> io::Result<()> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(THREADS_MAX);
    let (tasks, waiting) = channel::<Task<T>>();
    let waiting = Mutex::new(waiting);
    // Bounds the batches under way: where one is to be answered is known before it is sent off.
    let (places, answers) = sync_channel::<Receiver<Outcomes<T>>>(AHEAD * threads);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut batch = Batch::default();
            let mut full = BATCH_MIN;
            let send = |batch| {
                let (place, answer) = channel();
                places.send(answer).is_ok() && tasks.send((batch, place)).is_ok()
            };
            question.walk.each(&mut |entry| {
                batch.push(entry);
                if batch.found.len() < full {
                    return true;
                }
                full = BATCH_MAX.min(2 * full);
                send(mem::take(&mut batch))
            });
            send(batch);
        });
        for _ in 0..threads {
            scope.spawn(|| {
                let mut reader = Reader::new();
                let mut room = 0;
                loop {
                    let task = waiting.lock().ok().and_then(|waiting| waiting.recv().ok());
                    let Some((batch, place)) = task else { return };
                    let mut list = Vec::with_capacity(batch.found.len());
                    let mut text = Vec::with_capacity(room);
                    batch.each(|entry| {
                        let make = |answer| make(&mut text, answer);
                        list.extend(one(question, &mut reader, entry, make));
                    });
                    // The next takes about as much.
                    room = text.len() + text.len() / 8;
                    // Nobody waits for it when there was enough before.
                    let _ = place.send(Outcomes { list, text });
                }
            });
        }
        for answer in answers {
            let Ok(outcomes) = answer.recv() else { break };
            if !take(outcomes)? {
                break;
            }
        }
        Ok(())
    })
}

fn one<T>(
    question: &Question,
    reader: &mut Reader,
    entry: Found<'_>,
    make: impl FnOnce(Answer) -> T,
) -> Option<Outcome<T>> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => return Some(Outcome::Failure(error)),
    };
    match answer(question, reader, &entry) {
        Ok(None) => None,
        Ok(Some((record, check))) => Some(Outcome::Answer {
            stamped: record.is_some(),
            made: make(Answer {
                path: entry.path.to_owned(),
                record,
                check,
            }),
        }),
        // It vanished before its turn.
        Err(error) if !entry.named && error.is(Errno::NOENT) => None,
        Err(error) => Some(Outcome::Failure(error.explain())),
    }
}

/// Why a file could not be asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot read the times of {path:?}")]
    Times { path: PathBuf, source: io::Error },
}

impl Failure {
    fn is(&self, errno: Errno) -> bool {
        let error = match self {
            Failure::Read(error) => error.io_error(),
            Failure::Times { source, .. } => source,
        };
        Errno::from_io_error(error) == Some(errno)
    }

    fn explain(&self) -> String {
        let advice = match self {
            Failure::Read(error) => error.advice(),
            Failure::Times { .. } => None,
        };
        let cause = self.source().map(|cause| format!(": {cause}"));
        let advice = advice.map(|advice| format!("; {advice}"));
        format!(
            "{self}{}{}",
            cause.unwrap_or_default(),
            advice.unwrap_or_default()
        )
    }
}

/// `None` if the file is not to be shown.
type Shown = Option<(Option<Record>, Option<Check>)>;

fn answer(
    question: &Question,
    reader: &mut Reader,
    entry: &Entry<&Path>,
) -> Result<Shown, Failure> {
    let unstamped = || question.shows_unstamped(entry).then_some((None, None));
    reader.follow_links(entry.follow_links);
    let mut stored = match reader.stored(entry.path) {
        // What cannot have a record has none. Of a file that was named this is worth an error.
        Err(error) => {
            let error = Failure::from(error);
            if !entry.named && error.is(Errno::NOTSUP) {
                return Ok(unstamped());
            }
            return Err(error);
        }
        Ok(stored) => stored,
    };
    if !stored.is_stamped() {
        return Ok(unstamped());
    }
    if question.unstamped {
        return Ok(None);
    }
    if !question.filter_keys.is_empty()
        && !question
            .filter
            .accepts(stored.fetch(&question.filter_keys)?)
    {
        return Ok(None);
    }
    let record = stored.fields(&question.keys)?;
    let Some(judge) = &question.judge else {
        return Ok(Some((Some(record), None)));
    };
    let times = Times::of(entry.path, entry.follow_links).map_err(|errno| Failure::Times {
        path: entry.path.to_owned(),
        source: errno.into(),
    })?;
    let check = judge.check(record.ts.as_ref().and_then(|ts| ts.unix), times);
    let wanted = question.verdicts.is_empty() || question.verdicts.contains(&check.verdict);
    Ok(wanted.then_some((Some(record), Some(check))))
}
