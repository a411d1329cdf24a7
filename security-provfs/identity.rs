// SPDX-License-Identifier: GPL-2.0-only

//! Who is acting: made once for each program that is executed, and shared by everything the program
//! starts.
//!
//! An [`Identity`] holds text and numbers only, ready to be stored, so that it can be dropped
//! anywhere. A task has the identity of its parent until it executes a program. As a session that
//! nobody declared names the process and the user, such an identity is made anew for a child, or
//! after a change of the user, at its first write.

use kernel::{
    alloc::{
        flags::{
            __GFP_NOWARN,
            GFP_KERNEL_ACCOUNT, //
        },
        Flags, //
    },
    binprm::Binprm,
    fs::{
        path::OwnedPath,
        Path, //
    },
    prelude::*,
    sync::{
        rcu,
        Arc, //
    },
    task::Task, //
};

use crate::{
    policy,
    pure::{
        environ::{
            self,
            Claim,
            Declared,
            Kind, //
        },
        fallback::{
            stops_chain,
            write_fallback,
            Fallback, //
        },
        limits::{
            INTENT_MAX,
            NAME_MAX,
            SESSION_MAX,
            TOOL_MAX,
            TURN_MAX,
            VALUE_MAX, //
        },
        record::{
            encode_declared_session,
            encode_intent,
            encode_tool,
            encode_turn, //
        },
        text::Writer,
    },
    state::{
        self,
        Id,
        TaskState, //
    },
    status::{
        self,
        Counter, //
    },
    Context, //
};

/// Memory of identities is charged to who causes it; running out of it is not worth a message, for
/// it is counted.
fn quietly() -> Flags {
    GFP_KERNEL_ACCOUNT | __GFP_NOWARN
}

/// How many comms a fallback session has at most.
const CHAIN_MAX: usize = 3;

/// How much of the environment is read in one piece. A page is usually all of it.
const WINDOW: usize = 4096;

/// A comm with its NUL bytes.
type Comm = [u8; 16];

/// The part of a comm before its first NUL byte.
fn comm_bytes(comm: &Comm) -> &[u8] {
    comm.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Who is acting.
pub(crate) struct Identity {
    /// Number that no other identity has.
    pub(crate) id: Id,
    /// The process that executed the program, in the initial pid name space.
    pid: u32,
    /// The real user, in the initial user name space.
    uid: u32,
    /// The name of the program as it was executed. Later changes to it are the process's own doing.
    comm: Comm,
    /// Whether the session is declared, and the same for all processes therefore.
    declared: bool,
    /// The stored forms of all fields, one behind the other.
    text: KVec<u8>,
    /// Where in `text` each of them ends. An empty field is absent.
    ends: [u16; Field::COUNT],
}

/// The fields of [`Identity::text`], in their order.
#[derive(Clone, Copy)]
enum Field {
    Session,
    Tool,
    Turn,
    Intent,
    /// Name of the variable that a fallback session shows. It and its value are not escaped.
    EnvName,
    /// Value of that variable.
    EnvValue,
}

impl Field {
    const COUNT: usize = 6;
}

/// Room for the stored forms of all fields.
const TEXT_MAX: usize = SESSION_MAX + TOOL_MAX + TURN_MAX + INTENT_MAX + NAME_MAX + VALUE_MAX;

impl Identity {
    /// The session as it is stored.
    pub(crate) fn session(&self) -> &[u8] {
        self.field(Field::Session)
    }

    /// The tool as it is stored.
    pub(crate) fn tool(&self) -> &[u8] {
        self.field(Field::Tool)
    }

    /// The turn as it is stored.
    pub(crate) fn turn(&self) -> Option<&[u8]> {
        Some(self.field(Field::Turn)).filter(|turn| !turn.is_empty())
    }

    /// The intent as it is stored.
    pub(crate) fn intent(&self) -> Option<&[u8]> {
        Some(self.field(Field::Intent)).filter(|intent| !intent.is_empty())
    }

    /// The name of the program.
    pub(crate) fn comm(&self) -> &[u8] {
        comm_bytes(&self.comm)
    }

    /// The real user, in the initial user name space.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    fn field(&self, field: Field) -> &[u8] {
        let end = |index: usize| self.ends.get(index).copied().map(usize::from);
        // CAST: The enum has no fields.
        let index = field as usize;
        let start = index.checked_sub(1).and_then(end).unwrap_or(0);
        self.text
            .get(start..end(index).unwrap_or(start))
            .unwrap_or_default()
    }

    /// Whether the identity describes a process of this number that acts for this user.
    fn describes(&self, pid: u32, uid: u32) -> bool {
        self.uid == uid && (self.declared || self.pid == pid)
    }
}

/// What the kernel knows about the process that the current task belongs to.
struct Process {
    pid: u32,
    uid: u32,
}

impl Process {
    fn current(cx: &Context<'_>) -> Self {
        Process {
            // CAST: Numbers of live processes are positive.
            pid: cx.task().group_leader().pid() as u32,
            uid: cx.task().uid().into_init_ns(),
        }
    }
}

/// Memory for making an identity, too much for a stack.
struct Scratch {
    window: KVec<u8>,
    text: KVec<u8>,
}

impl Scratch {
    fn new() -> Result<Self> {
        Ok(Scratch {
            window: KVec::from_elem(0, WINDOW, quietly())?,
            text: KVec::from_elem(0, TEXT_MAX, quietly())?,
        })
    }
}

/// What a process declares, for each field.
struct Claims<'a> {
    session: Option<&'a [u8]>,
    tool: Option<&'a [u8]>,
    turn: Option<&'a [u8]>,
    intent: Option<&'a [u8]>,
    /// The variable that a fallback session shows, name and value.
    env: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Claims<'a> {
    /// What was found in an environment.
    fn from_declared(declared: &'a Declared) -> Self {
        let claim = |kind| declared.get(kind).map(|claim: Claim<'a>| claim.value);
        Claims {
            session: claim(Kind::Session),
            tool: claim(Kind::Tool),
            turn: claim(Kind::Turn),
            intent: claim(Kind::Intent),
            env: [Kind::Tool, Kind::Turn, Kind::Intent]
                .into_iter()
                .find_map(|kind| declared.get(kind))
                .map(|claim| (claim.name, claim.value)),
        }
    }
}

/// A program takes over the current task: finds out who it is from now on.
pub(crate) fn executed(cx: &Context<'_>, program: &Binprm) {
    let task = state::of_task(cx);
    task.set_known(0);

    let identity = of_program(cx, program);
    if identity.is_err() {
        // What the old program declared does not count for the new one. At its first write, an
        // identity is made without any claims.
        status::count(Counter::IdentityFailed);
    }
    task.identity.swap(identity.ok());
}

fn of_program(cx: &Context<'_>, program: &Binprm) -> Result<Arc<Identity>> {
    let mut scratch = Scratch::new()?;
    let mut declared = KBox::new(Declared::new(), quietly())?;

    policy::with_names(|wanted| {
        environ::search(
            wanted,
            &mut declared,
            program.env_available(),
            program.env_count(),
            &mut scratch.window,
            |distance, buf| program.read_env(distance, buf),
        )
    })?;

    let comm = cx.task().comm();
    build(cx, &comm, &Claims::from_declared(&declared), &mut scratch)
}

/// A new task is made: it is who its parent is.
pub(crate) fn inherit(cx: &Context<'_>, child: &mut TaskState) {
    child.identity.swap(current(cx));
}

/// The current task changes its user: what was known about it has to be found out again.
pub(crate) fn user_changed(cx: &Context<'_>) {
    state::of_task(cx).set_known(0);
}

/// The identity that the current task has, whether it still describes it or not.
fn current(cx: &Context<'_>) -> Option<Arc<Identity>> {
    let task = state::of_task(cx);
    let identity = task.identity.take();
    let copy = identity.clone();
    // Nobody else has put anything there: only the task itself can.
    task.identity.swap(identity);
    copy
}

/// The identity of the current task, which is about to write.
///
/// Fails with `ENOMEM` only.
pub(crate) fn of_writer(cx: &Context<'_>) -> Result<Arc<Identity>> {
    let task = state::of_task(cx);
    let process = Process::current(cx);

    let old = current(cx);
    if let Some(identity) = old
        .as_ref()
        .filter(|identity| identity.describes(process.pid, process.uid))
    {
        task.set_known(identity.id);
        return Ok(identity.clone());
    }

    let identity = renewed(cx, old.as_deref())?;
    task.identity.swap(Some(identity.clone()));
    task.set_known(identity.id);
    Ok(identity)
}

/// Makes an identity for the process that the current task belongs to, with what its program has
/// declared.
fn renewed(cx: &Context<'_>, old: Option<&Identity>) -> Result<Arc<Identity>> {
    let mut scratch = Scratch::new()?;

    let Some(old) = old else {
        let comm = cx.task().group_leader().comm();
        let none = Claims {
            session: None,
            tool: None,
            turn: None,
            intent: None,
            env: None,
        };
        return build(cx, &comm, &none, &mut scratch);
    };

    // The fields are stored, and so must not be encoded again.
    if old.declared {
        return copied(cx, old);
    }
    let env = Some((old.field(Field::EnvName), old.field(Field::EnvValue)));
    let env = env.filter(|(name, _)| !name.is_empty());
    let fallback = fallback_session(cx, &old.comm, env, &mut scratch.window, &mut scratch.text)?;

    let fields = [
        fallback,
        old.field(Field::Tool),
        old.field(Field::Turn),
        old.field(Field::Intent),
        old.field(Field::EnvName),
        old.field(Field::EnvValue),
    ];
    assemble(cx, old.comm, false, &fields)
}

/// Makes an identity for the process that the current task belongs to, with the same stored fields.
fn copied(cx: &Context<'_>, old: &Identity) -> Result<Arc<Identity>> {
    let fields = [
        old.field(Field::Session),
        old.field(Field::Tool),
        old.field(Field::Turn),
        old.field(Field::Intent),
        old.field(Field::EnvName),
        old.field(Field::EnvValue),
    ];
    assemble(cx, old.comm, old.declared, &fields)
}

/// Makes an identity for the process that the current task belongs to.
fn build(
    cx: &Context<'_>,
    comm: &Comm,
    claims: &Claims<'_>,
    scratch: &mut Scratch,
) -> Result<Arc<Identity>> {
    let Scratch { window, text } = scratch;
    let (session_buf, rest) = text.split_at_mut_checked(SESSION_MAX).ok_or(EINVAL)?;
    let (tool_buf, rest) = rest.split_at_mut_checked(TOOL_MAX).ok_or(EINVAL)?;
    let (turn_buf, intent_buf) = rest.split_at_mut_checked(TURN_MAX).ok_or(EINVAL)?;

    let session = match claims.session {
        Some(session) => {
            let mut out = Writer::new(session_buf);
            encode_declared_session(session, &mut out);
            out.into_bytes()
        }
        None => fallback_session(cx, comm, claims.env, window, session_buf)?,
    };

    let mut tool = Writer::new(tool_buf);
    encode_tool(claims.tool.unwrap_or(comm_bytes(comm)), &mut tool);
    let mut turn = Writer::new(turn_buf);
    encode_turn(claims.turn.unwrap_or_default(), &mut turn);
    let mut intent = Writer::new(intent_buf);
    encode_intent(claims.intent.unwrap_or_default(), &mut intent);

    let (env_name, env_value) = claims.env.unwrap_or_default();
    let fields = [
        session,
        tool.into_bytes(),
        turn.into_bytes(),
        intent.into_bytes(),
        env_name,
        env_value,
    ];
    assemble(cx, *comm, claims.session.is_some(), &fields)
}

/// Puts the stored fields together.
fn assemble(
    cx: &Context<'_>,
    comm: Comm,
    declared: bool,
    fields: &[&[u8]; Field::COUNT],
) -> Result<Arc<Identity>> {
    let Process { pid, uid } = Process::current(cx);

    let length = fields.iter().map(|field| field.len()).sum();
    let mut text = KVec::with_capacity(length, quietly())?;
    let mut ends = [0; Field::COUNT];
    for (field, end) in fields.iter().zip(&mut ends) {
        text.extend_from_slice(field, quietly())?;
        *end = u16::try_from(text.len()).map_err(|_| EINVAL)?;
    }

    let identity = Identity {
        id: state::next_id(),
        pid,
        uid,
        comm,
        declared,
        text,
        ends,
    };
    Ok(Arc::new(identity, quietly())?)
}

/// Writes the session of a process that declares none to `out`.
fn fallback_session<'b>(
    cx: &Context<'_>,
    comm: &Comm,
    env: Option<(&[u8], &[u8])>,
    window: &mut KVec<u8>,
    out: &'b mut [u8],
) -> Result<&'b [u8]> {
    let Process { pid, uid } = Process::current(cx);

    let mut comms = [[0; 16]; CHAIN_MAX];
    let ancestors = chain(cx.task(), comm, &mut comms);
    let mut chain: [&[u8]; CHAIN_MAX] = [b""; CHAIN_MAX];
    for (to, from) in chain.iter_mut().zip(&comms) {
        *to = comm_bytes(from);
    }

    // The task may be exiting, and a directory may be longer than any path or out of reach.
    let directory: Option<OwnedPath> = cx.task().working_directory();
    window.clear();
    let room = window.spare_capacity_mut();
    let room = room.get_mut(..Path::MAX.min(WINDOW)).unwrap_or_default();
    let cwd = directory
        .as_ref()
        .and_then(|directory| directory.absolute(room).ok());

    let who = Fallback {
        chain: chain.get(..ancestors).unwrap_or_default(),
        env,
        cwd,
        pid,
        uid,
    };
    let mut out = Writer::new(out);
    write_fallback(&who, &mut out).map_err(|_| EINVAL)?;
    Ok(out.into_bytes())
}

/// Fills `comms` with the names of the process and its ancestors, and returns how many there are.
fn chain(task: &Task, own: &Comm, comms: &mut [Comm; CHAIN_MAX]) -> usize {
    let guard = rcu::read_lock();
    let mut task = task.process(&guard);
    let mut count = 0;

    for to in comms.iter_mut() {
        let comm = if count == 0 { *own } else { task.comm() };
        // CAST: Numbers of processes are not negative.
        if count > 0 && stops_chain(task.pid() as u32, comm_bytes(&comm)) {
            break;
        }
        *to = comm;
        count += 1;
        task = task.real_parent(&guard).process(&guard);
    }
    count
}
