//! `provfs-overlay`: a FUSE file system that shows a directory, and stamps what is written through
//! it with who wrote it. It is for kernels without the provfs security module, and makes the same
//! records by the same rules.
//!
//! ```text
//!   kernel --> ops --> inodes, handles --> the directory behind
//!                |
//!                +--> caller --> stamp --> attributes of the file, or a database
//! ```
//!
//! [`mount`] begins and ends it. `ops` does what the kernel asks for, on [`inodes`] that are held by
//! descriptor and on open [`handles`]; [`caller`] knows who asks; [`stamp`] decides and records.

#![deny(unsafe_code)]

pub mod args;
pub mod attributes;
pub mod caller;
pub mod error;
mod fsxattr;
pub mod handles;
pub mod inodes;
pub mod mount;
mod ops;
pub mod overlay;
pub mod passthrough;
pub mod reaper;
pub mod stamp;
pub mod status;

pub use error::StartError;
pub use overlay::{Overlay, Settings};
