//! Where records are kept: with the files, or in a database beside them.

use std::sync::Arc;

use rustix::io::{Errno, Result};

use super::{
    policy::Places,
    sidecar::{OfPath, Sidecar},
};
use crate::{
    attributes::{Attributes, OfFile},
    inodes::Inode,
};

/// Where records are kept.
#[derive(Debug)]
pub enum Store {
    /// In extended attributes of the files themselves.
    Files,
    /// In a database, by path.
    Sidecar(Arc<Sidecar>, Arc<Places>),
}

impl Store {
    /// The attributes of an inode in which its record is.
    pub fn of<'a>(
        &'a self,
        inode: &Inode,
        file: &'a OfFile<'a>,
    ) -> Result<Box<dyn Attributes + 'a>> {
        Ok(match self {
            Store::Files => Box::new(file),
            Store::Sidecar(database, places) => {
                // Without a name it cannot be found again.
                let path = places.relative(inode).ok_or(Errno::NOENT)?;
                Box::new(OfPath::new(database, path))
            }
        })
    }

    /// The database, if there is one.
    pub fn sidecar(&self) -> Option<(&Sidecar, &Places)> {
        match self {
            Store::Files => None,
            Store::Sidecar(database, places) => Some((database, places)),
        }
    }
}

impl Attributes for &OfFile<'_> {
    fn get(&self, name: &std::ffi::CStr) -> Result<Option<Vec<u8>>> {
        (**self).get(name)
    }
    fn list(&self) -> Result<Vec<u8>> {
        (**self).list()
    }
    fn set(&self, name: &std::ffi::CStr, value: &[u8]) -> Result<()> {
        (**self).set(name, value)
    }
    fn remove(&self, name: &std::ffi::CStr) -> Result<()> {
        (**self).remove(name)
    }
}
