//! In which order files are shown, and how many of them.

use std::cmp::{Ordering, Reverse};

use provfs::Session;

use crate::{args::Sort, ask::Answer};

/// Keeps files until the last one is there.
pub(crate) struct Order {
    by: fn(&Answer, &Answer) -> Ordering,
    reverse: bool,
    limit: usize,
    kept: Vec<Answer>,
}

impl Order {
    /// `None` if files may be shown as they come.
    pub(crate) fn new(sort: Option<Sort>, reverse: bool, limit: usize) -> Option<Self> {
        let by: fn(&Answer, &Answer) -> Ordering = match sort? {
            Sort::None => return None,
            Sort::Path => |a, b| a.path.cmp(&b.path),
            Sort::Time => by_time,
            Sort::Session => |a, b| by_session(a).cmp(&by_session(b)).then(by_time(a, b)),
        };
        Some(Order {
            by,
            reverse,
            limit,
            kept: Vec::new(),
        })
    }

    /// Takes a file.
    pub(crate) fn put(&mut self, answer: Answer) {
        self.kept.push(answer);
        // Now and then, so that sorting costs little and no more than twice the limit is kept.
        if self.kept.len() / 2 > self.limit {
            self.settle();
        }
    }

    /// The files, in their order.
    pub(crate) fn sorted(mut self) -> Vec<Answer> {
        self.settle();
        self.kept
    }

    fn settle(&mut self) {
        let (by, reverse) = (self.by, self.reverse);
        // Stable: what is equal stays as it came.
        self.kept
            .sort_by(|a, b| if reverse { by(b, a) } else { by(a, b) });
        self.kept.truncate(self.limit);
    }
}

/// The latest first, those without a time last.
fn by_time(a: &Answer, b: &Answer) -> Ordering {
    let time = |answer: &Answer| {
        let ts = answer.record.as_ref()?.ts.as_ref()?;
        Some((ts.unix?, ts.nanos))
    };
    Reverse(time(a)).cmp(&Reverse(time(b)))
}

/// Declared sessions by their id, then processes by command and user, then nothing.
fn by_session(answer: &Answer) -> (u8, &[u8], Option<u32>) {
    let session = answer.record.as_ref().and_then(|r| r.session.as_ref());
    match session {
        Some(Session::Declared(id) | Session::Opaque(id)) => (0, id.as_bytes(), None),
        Some(Session::AgentNs(id)) => (0, id.as_bytes(), None),
        Some(other) => {
            let comm = other.comm().map(|comm| comm.as_bytes());
            (1, comm.unwrap_or_default(), other.uid())
        }
        None => (2, b"", None),
    }
}

#[cfg(test)]
mod tests {
    use provfs::Record;

    use super::*;

    fn answers() -> Vec<Answer> {
        [
            ("b", "s2", "30"),
            ("a", "s1", "10"),
            ("e", "comm:vim:uid:0", "40"),
            ("d", "s1", "20"),
            ("c", "", ""),
        ]
        .map(|(path, session, ts)| {
            let mut xattrs = vec![("user.prov.session", session), ("user.prov.ts", ts)];
            xattrs.retain(|(_, value)| !value.is_empty());
            Answer {
                path: path.into(),
                record: Record::from_xattrs(xattrs),
                check: None,
            }
        })
        .to_vec()
    }

    fn sorted(sort: Sort, reverse: bool, limit: usize) -> String {
        let mut order = Order::new(Some(sort), reverse, limit).unwrap();
        for answer in answers() {
            order.put(answer);
        }
        let sorted = order.sorted();
        sorted
            .iter()
            .map(|answer| answer.path.to_str().unwrap())
            .collect()
    }

    #[test]
    fn orders() {
        for (sort, reverse, limit, want) in [
            (Sort::Path, false, 9, "abcde"),
            (Sort::Path, true, 2, "ed"),
            (Sort::Time, false, 5, "ebdac"),
            (Sort::Time, true, 9, "cadbe"),
            (Sort::Time, false, 1, "e"),
            (Sort::Session, false, 9, "dabec"),
            (Sort::Session, false, 0, ""),
        ] {
            assert_eq!(
                sorted(sort, reverse, limit),
                want,
                "{sort:?} {reverse} {limit}"
            );
        }
        assert!(Order::new(None, false, 9).is_none());
        assert!(Order::new(Some(Sort::None), false, 9).is_none());
    }

    #[test]
    fn no_more_is_kept_than_the_limit_needs() {
        let mut order = Order::new(Some(Sort::Time), false, 3).unwrap();
        for answer in std::iter::repeat_with(answers).take(100).flatten() {
            order.put(answer);
            assert!(order.kept.len() <= 8);
        }
        assert_eq!(order.sorted().len(), 3);
    }
}
