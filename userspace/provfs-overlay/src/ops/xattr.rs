//! Extended attributes. Records are among them, wherever they are kept.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt,
};

use fuser::{INodeNo, Request};
use rustix::{
    fs::XattrFlags,
    io::{Errno, Result},
};

use crate::{
    Overlay,
    attributes::{Attributes, OfFile, is_record},
    inodes::Inode,
};

/// Asked of the root, it is not an attribute but what became of all modifications.
const STATUS: &[u8] = b"user.provfs.status";

impl Overlay {
    /// The kernel has asked whether this is allowed.
    pub(crate) fn getxattr(&self, inode: INodeNo, name: &OsStr) -> Result<Vec<u8>> {
        if name.as_bytes() == STATUS && inode == INodeNo::ROOT {
            return Ok(self.status_text().into_bytes());
        }
        let inode = self.inodes.get(inode)?;
        let name = c_string(name)?;
        let file = OfFile::held(&*inode);
        let value = if self.is_elsewhere(name.as_bytes()) {
            self.stamper.store.of(&inode, &file)?.get(&name)
        } else {
            file.get(&name)
        };
        value?.ok_or(Errno::NODATA)
    }

    pub(crate) fn listxattr(&self, request: &Request, inode: INodeNo) -> Result<Vec<u8>> {
        let inode = self.inodes.get(inode)?;
        let file = OfFile::held(&*inode);
        let mut list = match file.list() {
            Err(Errno::OPNOTSUPP) if self.stamper.store.sidecar().is_some() => Vec::new(),
            list => list?,
        };
        if request.uid() != 0 {
            // Those are for the administrator, which this process is whoever asks.
            let names = list.split_inclusive(|&byte| byte == 0);
            list = names
                .filter(|name| !name.starts_with(b"trusted."))
                .flatten()
                .copied()
                .collect();
        }
        if self.stamper.store.sidecar().is_none() {
            return Ok(list);
        }
        if let Ok(attributes) = self.stamper.store.of(&inode, &file) {
            list.extend(attributes.list()?);
        }
        Ok(list)
    }

    pub(crate) fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        let inode = self.inodes.get(inode)?;
        let name = c_string(name)?;
        self.check_protected(name.as_bytes())?;
        let file = OfFile::held(&*inode);
        let flags = XattrFlags::from_bits_retain(flags as u32);
        if self.is_elsewhere(name.as_bytes()) {
            let attributes = self.stamper.store.of(&inode, &file)?;
            let is_there = attributes.get(&name)?.is_some();
            if is_there && flags.contains(XattrFlags::CREATE) {
                return Err(Errno::EXIST);
            }
            if !is_there && flags.contains(XattrFlags::REPLACE) {
                return Err(Errno::NODATA);
            }
            attributes.set(&name, value)?;
        } else {
            let _acting = self.acting(request)?;
            file.set_with(&name, value, flags)?;
        }
        self.record_changed(&inode, name.as_bytes());
        Ok(())
    }

    pub(crate) fn removexattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
    ) -> Result<()> {
        let inode = self.inodes.get(inode)?;
        let name = c_string(name)?;
        self.check_protected(name.as_bytes())?;
        let file = OfFile::held(&*inode);
        if self.is_elsewhere(name.as_bytes()) {
            let attributes = self.stamper.store.of(&inode, &file)?;
            attributes.get(&name)?.ok_or(Errno::NODATA)?;
            attributes.remove(&name)?;
        } else {
            let _acting = self.acting(request)?;
            file.remove_existing(&name)?;
        }
        self.record_changed(&inode, name.as_bytes());
        Ok(())
    }

    /// Whether an attribute is not kept with the file.
    fn is_elsewhere(&self, name: &[u8]) -> bool {
        is_record(name) && self.stamper.store.sidecar().is_some()
    }

    fn check_protected(&self, name: &[u8]) -> Result<()> {
        if self.protect && is_record(name) {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    fn record_changed(&self, inode: &Inode, name: &[u8]) {
        if is_record(name) {
            inode.state.lock().overwritten();
        }
    }
}

fn c_string(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}
