// SPDX-License-Identifier: (GPL-2.0-only OR MIT OR Apache-2.0)

//! The parts of provfs that need neither a kernel nor an operating system.
//!
//! Everything here is `core`-only Rust without allocation, without `unsafe` and without a panic:
//! facts and borrowed buffers go in, decisions and bytes come out. The security module and the
//! tools in userspace compile these very files, so there is one grammar of a record, one reading
//! of a skip list and one search of an environment; and the tests at the end of each file run on
//! the host in seconds and again as KUnit suites in the kernel.
//!
//! The modules are listed in the order in which a record comes into being:
//!
//! ```text
//!   environment ---> environ ---+
//!   task, parents -> fallback --+--> record --> history --> packed --> xattr
//!   path, writer --> skip ------+       (text and time below all of them)
//! ```
//!
//! What a record looks like on disk is defined by [`record`], [`history`] and [`packed`]. Changing
//! what they write is a change of format; the golden bytes in `userspace/provfs/tests/golden` will
//! say so.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "one source, two users: a library re-exports it, the kernel uses its own half"
)]

pub mod limits;

pub mod text;
pub mod time;

pub mod environ;
pub mod fallback;
pub mod skip;

pub mod own;

pub mod record;

pub mod due;

pub mod history;
pub mod packed;
