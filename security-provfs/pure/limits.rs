// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! Every number of the record and of the controls, with its reason.
//!
//! Sizes are in bytes. `*_MAX` of a stored value counts the *escaped* form, because that is what
//! takes room in the xattr.

/// Longest stored session, declared or fallback.
///
/// Session ids in use are 26 (ULID) to 36 (UUID) bytes; a fallback string needs about 90 and is
/// made to fit this. It is also what earlier writers kept to.
pub const SESSION_MAX: usize = 256;

/// Longest stored tool. Tool names are words, and the fallback for a missing one is a comm
/// ([`COMM_MAX`]).
pub const TOOL_MAX: usize = 64;

/// Longest stored turn. Turns are counters or short ids.
pub const TURN_MAX: usize = 64;

/// Longest stored intent. An intent is a phrase written by a person or a model; a sentence fits.
pub const INTENT_MAX: usize = 256;

/// Longest value that is taken from an environment variable, before escaping: escaping never makes
/// a value shorter, so more than the largest field could hold is of no use.
pub const VALUE_MAX: usize = 256;

/// Longest name of an environment variable in a list.
pub const NAME_MAX: usize = 64;

/// Most names in one list. Each is compared with every variable that begins like it.
pub const NAMES_MAX: usize = 16;

/// Longest text of a list of names (`provfs.env_*`), in which every name is looked for at each
/// exec.
pub const NAMES_TEXT_MAX: usize = 1023;

/// How much of an environment is searched. More than this is rare, and reading it would make exec
/// slow on request.
pub const ENV_MAX: usize = 128 * 1024;

/// Smallest window for [`environ::search`](super::environ::search): new bytes and those that are
/// kept from the window before, with at least twice as many new ones.
pub const WINDOW_MIN: usize = 1024;

/// Longest stored comm: `TASK_COMM_LEN` is 16 with its NUL (`include/linux/sched.h`), and an
/// escape takes three bytes.
pub const COMM_MAX: usize = 15 * 3;

/// Longest stored value of the variable that a fallback session names.
pub const FALLBACK_ENV_MAX: usize = 64;

/// Shortest tail of a working directory that is still worth keeping in a fallback session.
pub const FALLBACK_CWD_MIN: usize = 8;

/// Most entries of a history that can be asked for (`provfs.history`).
pub const HISTORY_MAX: usize = 32;

/// Longest stored history. Older sessions fall off before a record outgrows the 4 KiB block that
/// ext4 has for all extended attributes of a file.
pub const HISTORY_TEXT_MAX: usize = 1536;

/// Longest packed record: every field at its limit and the labels between them.
pub const PACKED_MAX: usize = 2304;

/// Longest text of a skip list: a page less its NUL, which is what a sysctl write carries.
pub const SKIP_TEXT_MAX: usize = 4095;

/// Digits of the largest `u32`, which pid and uid are.
const U32_DIGITS: usize = 10;

/// Digits of the smallest `i64` with its sign, which a time is.
const I64_DIGITS: usize = 20;

// pid, uid and the writer's comm always stay in a fallback session, so these must fit by
// themselves.
const _: () = assert!("comm-chain:;pid:;uid:".len() + COMM_MAX + 2 * U32_DIGITS <= SESSION_MAX);

// An escaped name and value of the environment can be kept without losing the rest.
const _: () = assert!(NAME_MAX + FALLBACK_ENV_MAX < SESSION_MAX);

// What is read from the environment fills each field at least once.
const _: () = assert!(VALUE_MAX >= SESSION_MAX && VALUE_MAX >= INTENT_MAX);
const _: () = assert!(VALUE_MAX >= TOOL_MAX && VALUE_MAX >= TURN_MAX);

// A comm is a valid tool without being cut.
const _: () = assert!(COMM_MAX <= TOOL_MAX);

// Names are told apart by bits of a `u16`, their offsets are `u16`, their lengths `u8`.
const _: () = assert!(NAMES_MAX <= u16::BITS as usize && NAMES_TEXT_MAX <= u16::MAX as usize);
const _: () = assert!(NAME_MAX <= u8::MAX as usize);

// The default history of 5 has room for full sessions.
const _: () = assert!(HISTORY_TEXT_MAX >= 5 * (SESSION_MAX + 1));

// A packed record with every field full does not lose one.
const _: () = assert!(
    "ts=;s=;t=;n=;i=;h=".len()
        + I64_DIGITS
        + SESSION_MAX
        + TOOL_MAX
        + TURN_MAX
        + INTENT_MAX
        + HISTORY_TEXT_MAX
        <= PACKED_MAX
);

// Offsets into a skip list are `u16`.
const _: () = assert!(SKIP_TEXT_MAX <= u16::MAX as usize);
