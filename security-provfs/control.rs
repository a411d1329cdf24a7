// SPDX-License-Identifier: GPL-2.0-only

//! What the administrator sees: the settings in `/proc/sys/provfs`, and
//! `/sys/kernel/security/provfs`.

use kernel::{
    prelude::*,
    securityfs::Directory,
    str::CStr,
    sysctl::{
        self,
        Sysctl,
        Table, //
    },
};

use crate::{
    own::Own,
    policy,
    pure::{
        environ::Kind,
        limits::HISTORY_MAX,
        text::{
            parse_u32,
            Writer, //
        },
    },
    status::Status,
    xattrs::Format, //
};

static TABLE: Table<11> = Table::new([
    sysctl::entry::<Enabled>(),
    sysctl::entry::<Skip>(),
    sysctl::entry::<RecordFormat>(),
    sysctl::entry::<History>(),
    sysctl::entry::<Granularity>(),
    sysctl::entry::<Protect>(),
    sysctl::entry::<Kthreads>(),
    sysctl::entry::<EnvSession>(),
    sysctl::entry::<EnvTool>(),
    sysctl::entry::<EnvTurn>(),
    sysctl::entry::<EnvIntent>(),
]);

/// Makes all files.
pub(crate) fn register() -> Result {
    TABLE.register(c"provfs")?;

    let directory = Directory::create(c"provfs")?;
    directory.create_file::<Status>(c"status", 0o444)?;
    // Everybody may ask who they are, and say so.
    directory.create_writable_file::<Own>(c"self", 0o666)
}

/// The text of a number.
fn number(value: u32) -> Result<KVec<u8>> {
    let mut digits = [0; 10];
    let mut out = Writer::new(&mut digits);
    out.push_u64(u64::from(value)).map_err(|_| EINVAL)?;

    let mut text = KVec::new();
    text.extend_from_slice(out.as_bytes(), GFP_KERNEL)?;
    Ok(text)
}

/// Reads a number from a text with blanks around it.
fn parse_number(text: &[u8], max: u32) -> Result<u32> {
    parse_u32(text.trim_ascii())
        .filter(|&value| value <= max)
        .ok_or(EINVAL)
}

/// Defines a setting that is 0 or 1.
macro_rules! switches {
    ($($(#[$doc:meta])* $type:ident = $name:literal, $get:path, $set:path;)*) => {$(
        $(#[$doc])*
        struct $type;

        impl Sysctl for $type {
            const NAME: &'static CStr = $name;

            fn show() -> Result<KVec<u8>> {
                number(u32::from($get()))
            }

            fn store(text: &[u8]) -> Result {
                $set(parse_number(text, 1)? != 0);
                Ok(())
            }
        }
    )*};
}

switches! {
    /// `enabled`: 0 stops stamping at once.
    Enabled = c"enabled", policy::is_enabled, policy::set_enabled;
    /// `protect`: with 1, nobody but the kernel and the administrator changes records.
    Protect = c"protect", policy::is_protecting, policy::set_protecting;
    /// `kthreads`: with 1, what threads of the kernel write is recorded, too.
    Kthreads = c"kthreads", policy::records_kthreads, policy::set_records_kthreads;
}

/// `format`: how records are stored.
struct RecordFormat;

impl Sysctl for RecordFormat {
    const NAME: &'static CStr = c"format";

    fn show() -> Result<KVec<u8>> {
        let mut text = KVec::new();
        text.extend_from_slice(policy::format().name().as_bytes(), GFP_KERNEL)?;
        Ok(text)
    }

    fn store(text: &[u8]) -> Result {
        let name = text.trim_ascii();
        let format = Format::ALL
            .into_iter()
            .find(|format| format.name().as_bytes() == name);
        policy::set_format(format.ok_or(EINVAL)?);
        Ok(())
    }
}

/// `history`: how many sessions a history has at most.
struct History;

impl Sysctl for History {
    const NAME: &'static CStr = c"history";

    fn show() -> Result<KVec<u8>> {
        number(policy::history())
    }

    fn store(text: &[u8]) -> Result {
        // CAST: It is a small number.
        policy::set_history(parse_number(text, HISTORY_MAX as u32)?);
        Ok(())
    }
}

/// `skip`: what is not recorded.
struct Skip;

impl Sysctl for Skip {
    const NAME: &'static CStr = c"skip";

    fn show() -> Result<KVec<u8>> {
        policy::skip_text()
    }

    fn store(text: &[u8]) -> Result {
        policy::set_skip(text)
    }
}

/// `ts_granularity_ms`: how old a record of the same identity may get before it is renewed.
struct Granularity;

impl Granularity {
    /// A day.
    const MAX: u32 = 24 * 60 * 60 * 1000;
}

impl Sysctl for Granularity {
    const NAME: &'static CStr = c"ts_granularity_ms";

    fn show() -> Result<KVec<u8>> {
        number(policy::granularity_ms())
    }

    fn store(text: &[u8]) -> Result {
        policy::set_granularity_ms(parse_number(text, Self::MAX)?);
        Ok(())
    }
}

/// Defines a setting for the names of the variables that declare something.
macro_rules! env_names {
    ($($(#[$doc:meta])* $type:ident = $name:literal, $kind:expr;)*) => {$(
        $(#[$doc])*
        struct $type;

        impl Sysctl for $type {
            const NAME: &'static CStr = $name;

            fn show() -> Result<KVec<u8>> {
                policy::names_text($kind)
            }

            fn store(text: &[u8]) -> Result {
                policy::set_names($kind, text)
            }
        }
    )*};
}

env_names! {
    /// `env_session`: variables that declare the session, the first one found counts.
    EnvSession = c"env_session", Kind::Session;
    /// `env_tool`: likewise for the tool.
    EnvTool = c"env_tool", Kind::Tool;
    /// `env_turn`: likewise for the turn.
    EnvTurn = c"env_turn", Kind::Turn;
    /// `env_intent`: likewise for the intent.
    EnvIntent = c"env_intent", Kind::Intent;
}
