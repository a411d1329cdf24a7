// SPDX-License-Identifier: GPL-2.0-only

//! provfs: records who wrote each file, in the file's own extended attributes.
//!
//! ```text
//!   exec --------------> identity (kept in the task)
//!                           |
//!                           v
//!   write, create --> record --> due --> policy --> stamp --> user.prov.*
//!   release --------->   |     (what?)  (skip?)    (how)
//!                        v
//!                      status --> /sys/kernel/security/provfs/status
//! ```
//!
//! A hook ([`hooks`]) tells that a task is about to modify a file. Who it is was found out when its
//! program was executed ([`identity`]). Whether that is recorded is for [`policy`] to say, which
//! the administrator sets through [`control`]. What there is to do follows from what was done
//! before, which is remembered in the objects themselves ([`state`]); that decision is made by
//! [`pure::due`]. [`stamp`] carries it out, at once and in the writer's context, so that nobody
//! sees the data without the stamp; [`record`] joins the steps and counts each outcome in
//! [`status`].
//!
//! Nothing here ever makes an operation of a user fail: what goes wrong is counted.

mod hooks;
mod identity;
mod past;
mod policy;
mod pure;
mod record;
mod stamp;
mod state;
mod xattrs;

mod control;
mod own;
mod status;

kernel::define_lsm! {
    type: Provfs,
    name: "provfs",
}

/// The security module.
struct Provfs;

/// Evidence that a hook runs in process context.
type Context<'a> = kernel::lsm::ProcessContext<'a, Provfs>;
