// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/kernel/security/provfs/self`: what a process is told about itself, and tells.
//!
//! Reading it gives the identity of the reader, one `key=value` a line: what is declared, an empty
//! line, and what the kernel knows. Values are as they are stored. Each write is a declaration: a
//! `key=value` a line for `session`, `tool`, `turn` and `intent`, an empty value to take it back,
//! and `lock` to fix the session. It is in force at once for the thread that writes it, and for
//! everything that this thread starts.

use kernel::{
    prelude::*,
    securityfs::{
        Show,
        Store, //
    },
    seq_file::SeqFile,
    seq_print, //
};

use crate::{
    identity::{
        self,
        Declaration,
        Field, //
    },
    pure::{
        limits::COMM_MAX,
        own::{
            self,
            BadDeclaration, //
        },
        text::{
            Escape,
            Writer, //
        },
    },
    Context,
    Provfs, //
};

/// The file.
pub(crate) struct Own;

impl Show for Own {
    type Lsm = Provfs;

    fn show(cx: &Context<'_>, out: &SeqFile) -> Result {
        let identity = identity::of_writer(cx)?;
        for field in Field::DECLARED {
            if let Some(value) = identity.declared(field) {
                seq_print!(out, "{}=", field.name());
                out.write(value);
                out.write(b"\n");
            }
        }

        let mut comm = [0; COMM_MAX];
        let mut comm = Writer::new(&mut comm);
        comm.push_escaped(identity.comm(), Escape::Part, COMM_MAX);
        out.write(b"\ncomm=");
        out.write(comm.as_bytes());
        seq_print!(out, "\npid={}\n", identity.pid());
        seq_print!(out, "uid={}\n", identity.uid());
        seq_print!(out, "locked={}\n", u32::from(identity::is_locked(cx)));
        Ok(())
    }
}

impl Store for Own {
    const MAX: usize = own::MESSAGE_MAX;

    fn store(cx: &Context<'_>, message: &[u8]) -> Result {
        let own::Declaration { values, lock } =
            own::parse(message).map_err(|error| match error {
                BadDeclaration::TooLong => E2BIG,
                BadDeclaration::Malformed => EINVAL,
            })?;
        let values: Declaration<'_> = values;
        identity::declare(cx, &values, lock)
    }
}
