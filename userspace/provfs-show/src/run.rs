//! Asks, sorts if that is wanted, and prints. A file that cannot be read does not stop the others.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anstream::AutoStream;
use clap::ColorChoice;

use crate::{
    args::{Args, Paging},
    ask::{Answer, Outcome, Outcomes, ask},
    order::Order,
    pager::Output,
    print::{All, Each, Form, Look, form},
    question::Question,
    times::Clock,
};

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Result {
    /// Some file is what was asked for.
    pub(crate) found: bool,
    /// Some file could not be read.
    pub(crate) failed: bool,
}

/// Why it could not be done.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line makes no sense.
    Usage(String),
    /// The output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Output(error)
    }
}

/// Runs the program.
pub(crate) fn run(args: &Args) -> std::result::Result<Result, Error> {
    let stdout = io::stdout();
    let color = match args.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
    };
    let clock = Clock::system();
    let look = Look::new(color, stdout.is_terminal(), clock);
    let form = form(args, look).map_err(Error::Usage)?;
    let question = Question::new(args, &form.keys(), &clock).map_err(Error::Usage)?;
    let paged = match args.paging {
        Paging::Always => true,
        Paging::Never => false,
        Paging::Auto => stdout.is_terminal() && form.is_text(),
    };
    let mut out = if paged {
        Output::paged()
    } else {
        Output::direct()
    };
    let stop = Arc::new(AtomicBool::new(false));
    if out.is_paged() {
        watch_interrupts(&stop)?;
    }
    let mut run = Run {
        // Somebody may be waiting for the first answers.
        live: out.is_paged() || stdout.is_terminal(),
        question: &question,
        out: &mut out,
        stop: &stop,
        result: Result::default(),
    };
    let limit = args.limit.unwrap_or(usize::MAX);
    let printed = match form {
        // Groups count their own limit.
        Form::All(form) if args.group_by.is_some() => run.all(form, usize::MAX),
        Form::All(form) => run.all(form, limit),
        Form::Each(form) => match Order::new(args.sort, args.reverse, limit) {
            Some(order) => run.sorted(form.as_ref(), order),
            None => run.each(form.as_ref(), limit),
        },
    };
    let result = run.result;
    // The pager is waited for in any case: it has the terminal.
    let finished = out.finish();
    printed?;
    finished?;
    Ok(result)
}

/// Says what is wrong. If nobody listens there either, nothing can be done about it.
pub(crate) fn complain(error: &str) {
    let _ = writeln!(io::stderr(), "provfs-show: {error}");
}

/// An interrupt ends the search and not the program: the pager would be left with nobody to wait
/// for it. A second one ends the program.
fn watch_interrupts(stop: &Arc<AtomicBool>) -> io::Result<()> {
    use signal_hook::{consts::SIGINT, flag};
    flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(stop))?;
    flag::register(SIGINT, Arc::clone(stop))?;
    Ok(())
}

fn keep(_: &mut Vec<u8>, answer: Answer) -> Box<Answer> {
    Box::new(answer)
}

/// What is needed on the way.
struct Run<'a> {
    question: &'a Question,
    out: &'a mut Output,
    live: bool,
    stop: &'a AtomicBool,
    result: Result,
}

impl Run<'_> {
    /// Prints each file as soon as it is known.
    fn each(&mut self, form: &dyn Each, limit: usize) -> io::Result<()> {
        let [begin, between, end] = form.frame();
        self.out.write_all(begin.as_bytes())?;
        let mut shown = 0;
        if limit > 0 {
            let print = |text: &mut Vec<u8>, answer| {
                let begin = text.len();
                form.file(text, &answer).map(|()| begin..text.len())
            };
            self.search(print, |out, text, printed| {
                if shown > 0 {
                    out.write_all(between.as_bytes())?;
                }
                out.write_all(text.get(printed?).unwrap_or_default())?;
                shown += 1;
                Ok(shown < limit)
            })?;
        }
        self.out.write_all(end.as_bytes())
    }

    /// Prints each file when all are known.
    fn sorted(&mut self, form: &dyn Each, mut order: Order) -> io::Result<()> {
        self.search(keep, |_, _, answer| {
            order.put(*answer);
            Ok(true)
        })?;
        let [begin, between, end] = form.frame();
        self.out.write_all(begin.as_bytes())?;
        for (index, answer) in order.sorted().iter().enumerate() {
            if index > 0 {
                self.out.write_all(between.as_bytes())?;
            }
            let mut text = Vec::new();
            form.file(&mut text, answer)?;
            self.out.write_all(&text)?;
        }
        self.out.write_all(end.as_bytes())
    }

    /// Prints something about all files.
    fn all(&mut self, mut form: Box<dyn All>, limit: usize) -> io::Result<()> {
        let mut added = 0;
        if limit > 0 {
            self.search(keep, |_, _, answer| {
                form.add(*answer);
                added += 1;
                Ok(added < limit)
            })?;
        }
        form.print(self.out)
    }

    /// Hands what was made of each answer to `take` until it says `false`, and complains about
    /// files that could not be asked. `make` may write into a buffer, which `take` sees.
    fn search<T: Send>(
        &mut self,
        make: impl Fn(&mut Vec<u8>, Answer) -> T + Sync,
        mut take: impl FnMut(&mut Output, &[u8], T) -> io::Result<bool>,
    ) -> io::Result<()> {
        ask(self.question, make, |Outcomes { list, text }| {
            for outcome in list {
                match outcome {
                    Outcome::Answer { made, stamped } => {
                        self.result.found |= stamped || self.question.unstamped;
                        if !take(self.out, &text, made)? {
                            return Ok(false);
                        }
                    }
                    Outcome::Failure(error) => {
                        self.result.failed = true;
                        // In the order in which things happened, where both go to one terminal.
                        self.out.flush()?;
                        complain(&error);
                    }
                }
            }
            if self.live {
                self.out.flush()?;
            }
            Ok(!self.stop.load(Ordering::Relaxed))
        })
    }
}
