// SPDX-License-Identifier: GPL-2.0-only

//! Who is acting: made once for each program that is executed, and shared by everything the program
//! starts.
//!
//! An [`Identity`] holds text and numbers only, ready to be stored, so that it can be dropped
//! anywhere. A task has the identity of its parent until it executes a program. As a session that
//! nobody declared names the process and the user, such an identity is made anew for a child, or
//! after a change of the user, at its first write.
//!
//! What a process declares comes from three places. The one that is named first goes before the
//! others: the agent namespace that it is in, what it has written to its `self` file (see
//! [`crate::own`]), and its environment. A *lock* fixes the session for a process and everything
//! that it starts.

use kernel::{
    alloc::{
        flags::{
            self,
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
        text::{
            Fit,
            Writer, //
        },
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
    GFP_KERNEL_ACCOUNT | flags::__GFP_NOWARN
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
    /// The agent namespace that the session is the ID of.
    agent: Option<AgentId>,
    /// Which fields are declared. A declared session is the same for all processes.
    declared: Fields,
    /// Which of them through the `self` file, so that no program that is executed changes them.
    pinned: Fields,
    /// The stored forms of all fields, one behind the other.
    text: KVec<u8>,
    /// Where in `text` each of them ends. An empty field is absent.
    ends: [u16; Field::COUNT],
    /// Counts it as long as it is in memory.
    _held: status::Held,
}

/// ID of an agent namespace.
type AgentId = [u8; 16];

/// The agent namespace that the current task is in, unless it is the initial one.
fn agent(cx: &Context<'_>) -> Option<AgentId> {
    #[cfg(CONFIG_AGENT_NS)]
    let id = cx.task().agent_session();
    #[cfg(not(CONFIG_AGENT_NS))]
    let id = {
        let _ = cx;
        None
    };
    id
}

/// The fields of [`Identity::text`], in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
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

    /// Those that can be declared.
    pub(crate) const DECLARED: [Field; 4] =
        [Field::Session, Field::Tool, Field::Turn, Field::Intent];

    /// The name by which a field is declared.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Field::Session => "session",
            Field::Tool => "tool",
            Field::Turn => "turn",
            Field::Intent => "intent",
            Field::EnvName | Field::EnvValue => "env",
        }
    }
}

/// A set of fields.
#[derive(Clone, Copy, Default)]
struct Fields(u8);

impl Fields {
    fn has(self, field: Field) -> bool {
        // CAST: The enum has no fields.
        self.0 & (1 << field as u8) != 0
    }

    fn set(&mut self, field: Field, on: bool) {
        // CAST: The enum has no fields.
        let bit = 1 << field as u8;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }
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

    /// The length of all fields together, as they are stored.
    pub(crate) fn stored_len(&self) -> usize {
        self.text.len()
    }

    /// A field as it is stored, if it was declared.
    pub(crate) fn declared(&self, field: Field) -> Option<&[u8]> {
        self.declared.has(field).then(|| self.field(field))
    }

    /// The process, in the initial pid name space.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
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

    /// Whether the identity describes a process.
    fn describes(&self, process: &Process) -> bool {
        self.uid == process.uid
            && self.agent == process.agent
            && (self.declared.has(Field::Session) || self.pid == process.pid)
    }
}

/// What the kernel knows about the process that the current task belongs to.
struct Process {
    pid: u32,
    uid: u32,
    agent: Option<AgentId>,
}

impl Process {
    fn current(cx: &Context<'_>) -> Self {
        Process {
            // CAST: Numbers of live processes are positive.
            pid: cx.task().group_leader().pid() as u32,
            uid: cx.task().uid().into_init_ns(),
            agent: agent(cx),
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

/// What a process declares for a field.
#[derive(Clone, Copy, Default)]
enum Claim<'a> {
    /// Nothing.
    #[default]
    None,
    /// This, which is to be encoded.
    Raw(&'a [u8]),
    /// The same as before, which is stored already.
    Stored(&'a [u8]),
}

impl<'a> Claim<'a> {
    fn is_some(self) -> bool {
        !matches!(self, Claim::None)
    }

    /// What an identity has in a field.
    fn kept(old: &'a Identity, field: Field) -> Self {
        old.declared(field).map_or(Claim::None, Claim::Stored)
    }
}

/// What a process declares, for each field.
#[derive(Clone, Copy, Default)]
struct Claims<'a> {
    session: Claim<'a>,
    tool: Claim<'a>,
    turn: Claim<'a>,
    intent: Claim<'a>,
    /// The variable that a fallback session shows, name and value.
    env: Option<(&'a [u8], &'a [u8])>,
    /// Which of the fields no program that is executed changes.
    pinned: Fields,
}

impl<'a> Claims<'a> {
    /// What was found in an environment.
    fn from_environment(found: &'a Declared) -> Self {
        let claim = |kind| {
            found
                .get(kind)
                .map_or(Claim::None, |found| Claim::Raw(found.value))
        };
        Claims {
            session: claim(Kind::Session),
            tool: claim(Kind::Tool),
            turn: claim(Kind::Turn),
            intent: claim(Kind::Intent),
            env: [Kind::Tool, Kind::Turn, Kind::Intent]
                .into_iter()
                .find_map(|kind| found.get(kind))
                .map(|found| (found.name, found.value)),
            pinned: Fields::default(),
        }
    }

    /// What an identity declares.
    fn from_identity(old: &'a Identity) -> Self {
        let env = (old.field(Field::EnvName), old.field(Field::EnvValue));
        let mut claims = Claims {
            env: Some(env).filter(|(name, _)| !name.is_empty()),
            pinned: old.pinned,
            ..Claims::default()
        };
        for field in Field::DECLARED {
            claims.put(field, Claim::kept(old, field));
        }
        claims
    }

    fn put(&mut self, field: Field, claim: Claim<'a>) {
        match field {
            Field::Session => self.session = claim,
            Field::Tool => self.tool = claim,
            Field::Turn => self.turn = claim,
            Field::Intent => self.intent = claim,
            Field::EnvName | Field::EnvValue => {}
        }
    }

    /// Keeps what an earlier program has declared for good.
    fn keep_pinned(&mut self, old: &'a Identity) {
        self.pinned = old.pinned;
        for field in Field::DECLARED {
            if old.pinned.has(field) {
                self.put(field, Claim::kept(old, field));
            }
        }
    }
}

/// A program takes over the current task: finds out who it is from now on.
pub(crate) fn executed(cx: &Context<'_>, program: &Binprm) {
    let task = state::of_task(cx);
    task.set_known(0);
    drop(task.past.take());

    let identity = of_program(cx, program);
    if identity.is_err() {
        status::count(Counter::IdentityFailed);
        if task.lock() != 0 {
            // The session at least is right.
            return;
        }
        // What the old program declared does not count for the new one. At its first write, an
        // identity is made without any claims.
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

    let old = current(cx);
    let mut claims = Claims::from_environment(&declared);
    if let Some(old) = &old {
        claims.keep_pinned(old);
    }
    if state::of_task(cx).lock() != 0 {
        claims.session = old
            .as_ref()
            .map_or(Claim::None, |old| Claim::kept(old, Field::Session));
    }
    build(cx, &cx.task().comm(), &claims, &mut scratch)
}

/// A new task is made: it is who its parent is.
pub(crate) fn inherit(cx: &Context<'_>, child: &mut TaskState) {
    child.identity.swap(current(cx));
    child.set_lock(state::of_task(cx).lock());
}

/// Whether a task may inspect another one, or control it. Fails with `EPERM` if a lock forbids it:
/// what it made the other one do would be recorded as that one's work.
pub(crate) fn may_control(tracer: &TaskState, child: &TaskState, attach: bool) -> Result {
    if attach && tracer.lock() != 0 && tracer.lock() != child.lock() {
        return Err(EPERM);
    }
    Ok(())
}

/// The current task changes its user: what was known about it has to be found out again.
pub(crate) fn user_changed(cx: &Context<'_>) {
    state::of_task(cx).set_known(0);
}

/// What the current task declares about itself: a value for each field, an empty one to take it
/// back.
pub(crate) type Declaration<'a> = [Option<&'a [u8]>; Field::DECLARED.len()];

/// The current task declares who it is, and whether that is to be the last word about its session.
///
/// Fails, and changes nothing, with `EPERM` if that word was spoken, with `EBUSY` if a process with
/// several threads is to be locked, and with `ENOMEM`.
pub(crate) fn declare(cx: &Context<'_>, declaration: &Declaration<'_>, lock: bool) -> Result {
    let task = state::of_task(cx);
    let [session, ..] = declaration;
    if session.is_some() && task.lock() != 0 {
        return Err(EPERM);
    }
    if lock && task.lock() == 0 && !cx.task().is_only_thread() {
        return Err(EBUSY);
    }

    let old = of_writer(cx)?;
    let mut claims = Claims::from_identity(&old);
    for (field, value) in Field::DECLARED.into_iter().zip(declaration) {
        if let Some(value) = value {
            let is_pinned = !value.is_empty();
            claims.put(
                field,
                if is_pinned {
                    Claim::Raw(value)
                } else {
                    Claim::None
                },
            );
            claims.pinned.set(field, is_pinned);
        }
    }
    let identity = build(cx, &old.comm, &claims, &mut Scratch::new()?)?;

    task.set_known(identity.id);
    task.identity.swap(Some(identity));
    if lock && task.lock() == 0 {
        task.set_lock(state::next_id());
    }
    Ok(())
}

/// Whether the session of the current task is fixed.
pub(crate) fn is_locked(cx: &Context<'_>) -> bool {
    state::of_task(cx).lock() != 0
}

/// The identity that the current task has, whether it still describes it or not.
pub(crate) fn current(cx: &Context<'_>) -> Option<Arc<Identity>> {
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
    // A namespace can be entered without anything being told here.
    let describes = |identity: &Identity| {
        (cfg!(not(CONFIG_AGENT_NS)) && task.known() == identity.id)
            || identity.describes(&Process::current(cx))
    };
    let old = match current(cx) {
        Some(identity) if describes(&identity) => {
            task.set_known(identity.id);
            return Ok(identity);
        }
        old => old,
    };

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
        return build(cx, &comm, &Claims::default(), &mut scratch);
    };
    let mut claims = Claims::from_identity(old);
    if old.agent.is_some() && !is_locked(cx) {
        // It was the session of a namespace, which the process may have left.
        claims.session = Claim::None;
    }
    build(cx, &old.comm, &claims, &mut scratch)
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

    let process = Process::current(cx);
    let session = match (process.agent, claims.session) {
        (Some(agent), _) if !is_locked(cx) => {
            let mut out = Writer::new(session_buf);
            out.push_hex(&agent).map_err(|_| EINVAL)?;
            out.into_bytes()
        }
        (_, Claim::Raw(session)) => {
            let mut out = Writer::new(session_buf);
            encode_declared_session(session, &mut out);
            out.into_bytes()
        }
        (_, Claim::Stored(session)) => session,
        (_, Claim::None) => fallback_session(cx, comm, claims.env, window, session_buf)?,
    };
    let tool = match claims.tool {
        Claim::Stored(tool) => tool,
        Claim::Raw(tool) => encoded(encode_tool, tool, tool_buf),
        Claim::None => encoded(encode_tool, comm_bytes(comm), tool_buf),
    };
    let turn = match claims.turn {
        Claim::Stored(turn) => turn,
        Claim::Raw(turn) => encoded(encode_turn, turn, turn_buf),
        Claim::None => &[],
    };
    let intent = match claims.intent {
        Claim::Stored(intent) => intent,
        Claim::Raw(intent) => encoded(encode_intent, intent, intent_buf),
        Claim::None => &[],
    };

    let mut declared = Fields::default();
    let is_agent = process.agent.is_some() && !is_locked(cx);
    declared.set(Field::Session, is_agent || claims.session.is_some());
    declared.set(Field::Tool, claims.tool.is_some());
    declared.set(Field::Turn, claims.turn.is_some());
    declared.set(Field::Intent, claims.intent.is_some());

    let (env_name, env_value) = claims.env.unwrap_or_default();
    let fields = [session, tool, turn, intent, env_name, env_value];
    let (text, ends) = join(&fields)?;
    let identity = Identity {
        id: state::next_id(),
        pid: process.pid,
        uid: process.uid,
        comm: *comm,
        agent: process.agent,
        declared,
        pinned: claims.pinned,
        text,
        ends,
        _held: status::Held::new(),
    };
    Ok(Arc::new(identity, quietly())?)
}

/// The stored form of a value.
fn encoded<'b>(
    encode: fn(&[u8], &mut Writer<'_>) -> Fit,
    value: &[u8],
    buf: &'b mut [u8],
) -> &'b [u8] {
    let mut out = Writer::new(buf);
    encode(value, &mut out);
    out.into_bytes()
}

/// Puts the stored fields together: all of them in one text, and where each of them ends.
fn join(fields: &[&[u8]; Field::COUNT]) -> Result<(KVec<u8>, [u16; Field::COUNT])> {
    let length = fields.iter().map(|field| field.len()).sum();
    let mut text = KVec::with_capacity(length, quietly())?;
    let mut ends = [0; Field::COUNT];
    for (field, end) in fields.iter().zip(&mut ends) {
        text.extend_from_slice(field, quietly())?;
        *end = u16::try_from(text.len()).map_err(|_| EINVAL)?;
    }
    Ok((text, ends))
}

/// Writes the session of a process that declares none to `out`.
fn fallback_session<'b>(
    cx: &Context<'_>,
    comm: &Comm,
    env: Option<(&[u8], &[u8])>,
    window: &mut KVec<u8>,
    out: &'b mut [u8],
) -> Result<&'b [u8]> {
    let Process { pid, uid, .. } = Process::current(cx);

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
