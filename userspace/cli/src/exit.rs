//! Exit codes, which are the same for every tool.
//!
//! A wrong command line is a failure too: clap exits with [`FAILED`] by itself.

/// It is done, or something was found.
pub const OK: u8 = 0;

/// There was nothing to find.
pub const NOTHING: u8 = 1;

/// Something could not be read, written or understood. What could be had was printed.
pub const FAILED: u8 = 2;
