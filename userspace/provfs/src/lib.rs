#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod error;
mod read;
mod record;
mod source;

// Formatted as the kernel formats it.
#[rustfmt::skip]
#[path = "../../../security-provfs/pure/mod.rs"]
pub mod pure;

pub use error::{Object, ReadError};
pub use pure::record::Key;
pub use read::{Reader, Stored, read, read_fd};
pub use record::{Fallback, Format, Record, Session, Time, Value};
