//! The operations of the file system, by topic. They are methods of [`Overlay`](crate::Overlay) that
//! return what the kernel is to be told; [`dispatch`] connects them with requests.

mod attr;
mod dir;
mod dispatch;
mod entry;
mod file;
mod io;
mod xattr;
