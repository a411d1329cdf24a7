//! What the command line tools of provfs have in common, so that they behave alike.

#![forbid(unsafe_code)]

pub mod escape;
pub mod exit;
pub mod json;
