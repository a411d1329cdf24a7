//! What is recorded of a process, in the form in which it is stored.

use provfs::pure::{
    environ::{Declared, Kind},
    fallback::{Fallback, write_fallback},
    limits::{INTENT_MAX, SESSION_MAX, TOOL_MAX, TURN_MAX},
    record::{encode_declared_session, encode_intent, encode_tool, encode_turn},
    text::{Fit, Writer},
};

/// What the kernel knows about a process.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The process, not the thread, as this daemon sees it. 0 if it is out of sight.
    pub pid: u32,
    /// The real user.
    pub uid: u32,
    /// The names of the process and its ancestors.
    pub chain: Vec<Vec<u8>>,
    /// The working directory.
    pub cwd: Option<Vec<u8>>,
}

/// Who writes. Two that are equal leave the same record.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The session as stored.
    pub session: Vec<u8>,
    /// The tool as stored.
    pub tool: Vec<u8>,
    /// The turn as stored.
    pub turn: Option<Vec<u8>>,
    /// The intent as stored.
    pub intent: Option<Vec<u8>>,
    /// The name of the program, for skip rules.
    pub comm: Vec<u8>,
    /// The real user, for skip rules.
    pub uid: u32,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.session == other.session
            && self.tool == other.tool
            && self.turn == other.turn
            && self.intent == other.intent
    }
}

impl Identity {
    /// Puts together what a process declares and what is known about it.
    pub fn new(known: &Known, declared: &Declared) -> Self {
        let value = |kind| declared.get(kind).map(|claim| claim.value);
        let comm = known.chain.first().cloned().unwrap_or_default();
        let session = match value(Kind::Session) {
            Some(session) => encode(SESSION_MAX, |out| encode_declared_session(session, out)),
            None => fallback_session(known, declared),
        };
        Identity {
            session,
            tool: encode(TOOL_MAX, |out| {
                encode_tool(value(Kind::Tool).unwrap_or(&comm), out)
            }),
            turn: value(Kind::Turn).map(|turn| encode(TURN_MAX, |out| encode_turn(turn, out))),
            intent: value(Kind::Intent)
                .map(|intent| encode(INTENT_MAX, |out| encode_intent(intent, out))),
            comm,
            uid: known.uid,
        }
    }
}

fn fallback_session(known: &Known, declared: &Declared) -> Vec<u8> {
    let chain: Vec<&[u8]> = known.chain.iter().map(Vec::as_slice).collect();
    let who = Fallback {
        chain: &chain,
        env: [Kind::Tool, Kind::Turn, Kind::Intent]
            .into_iter()
            .find_map(|kind| declared.get(kind))
            .map(|claim| (claim.name, claim.value)),
        cwd: known.cwd.as_deref(),
        pid: known.pid,
        uid: known.uid,
    };
    // It fails only for want of room, of which there is enough.
    encode(SESSION_MAX, |out| {
        write_fallback(&who, out).map_or(Fit::Cut, |()| Fit::Whole)
    })
}

fn encode(max: usize, write: impl FnOnce(&mut Writer<'_>) -> Fit) -> Vec<u8> {
    let mut buf = vec![0; max];
    let mut out = Writer::new(&mut buf);
    write(&mut out);
    let len = out.len();
    buf.truncate(len);
    buf
}

#[cfg(test)]
mod tests {
    use provfs::pure::environ::{Wanted, search_slice};

    use super::*;

    fn declared(block: &[u8]) -> Declared {
        let mut declared = Declared::new();
        search_slice(&Wanted::defaults(), &mut declared, block);
        declared
    }

    fn known() -> Known {
        Known {
            pid: 7,
            uid: 1000,
            chain: vec![b"cc1".to_vec(), b"make".to_vec()],
            cwd: Some(b"/src".to_vec()),
        }
    }

    #[test]
    fn claims_go_before_what_is_known() {
        let identity = Identity::new(
            &known(),
            &declared(b"PROV_SESSION=s;1\0PROV_TOOL=Edit\0PROV_TURN=4\0"),
        );
        assert_eq!(identity.session, b"s%3B1");
        assert_eq!(identity.tool, b"Edit");
        assert_eq!(identity.turn.as_deref(), Some(&b"4"[..]));
        assert_eq!((identity.intent, identity.uid), (None, 1000));
    }

    #[test]
    fn who_declares_nothing_is_described() {
        let identity = Identity::new(&known(), &declared(b"HOME=/\0PROV_INTENT=x\0"));
        assert_eq!(
            identity.session.escape_ascii().to_string(),
            "comm-chain:cc1>make;env:PROV_INTENT=x;cwd:/src;pid:7;uid:1000"
        );
        assert_eq!(identity.tool, b"cc1");
    }

    #[test]
    fn a_process_out_of_sight_is_a_record_still() {
        let identity = Identity::new(&Known::default(), &Declared::new());
        assert_eq!(identity.session, b"comm-chain:;pid:0;uid:0");
    }
}
