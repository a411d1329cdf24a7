//! Who asks: the process behind a request.
//!
//! [`credentials`] lets an operation run with the rights of the process; [`process`] finds out, from
//! `/proc`, who it is; `environ` reads what it declares; [`identity`] is what is recorded of that.

pub mod credentials;
mod environ;
pub mod identity;
pub mod process;

pub use credentials::Acting;
pub use identity::Identity;
pub use process::{Callers, Process};
