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
    policy,
    pure::{
        environ::Kind,
        text::{
            parse_u32,
            Writer, //
        },
    },
    status::Status, //
};

static TABLE: Table<7> = Table::new([
    sysctl::entry::<Enabled>(),
    sysctl::entry::<Skip>(),
    sysctl::entry::<Granularity>(),
    sysctl::entry::<EnvSession>(),
    sysctl::entry::<EnvTool>(),
    sysctl::entry::<EnvTurn>(),
    sysctl::entry::<EnvIntent>(),
]);

/// Makes all files.
pub(crate) fn register() -> Result {
    TABLE.register(c"provfs")?;
    Directory::create(c"provfs")?.create_file::<Status>(c"status", 0o444)
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

/// `enabled`: 0 stops stamping at once.
struct Enabled;

impl Sysctl for Enabled {
    const NAME: &'static CStr = c"enabled";

    fn show() -> Result<KVec<u8>> {
        number(u32::from(policy::is_enabled()))
    }

    fn store(text: &[u8]) -> Result {
        policy::set_enabled(parse_number(text, 1)? != 0);
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
