// SPDX-License-Identifier: GPL-2.0-only

//! What the kernel tells us: one line for each hook, and nothing else.
//!
//! Every hook allows what is asked. See [`Lsm`] for what holds when each of them is called.

use kernel::{
    binprm::Binprm,
    fs::{
        Dentry,
        LocalFile,
        SuperBlock, //
    },
    lsm::{
        Access,
        Lsm, //
    },
    prelude::*,
};

use crate::{
    control,
    identity,
    policy,
    record,
    state::{
        FileState,
        InodeState,
        SuperBlockState,
        TaskState, //
    },
    Context,
    Provfs, //
};

#[vtable]
impl Lsm for Provfs {
    const ID: u64 = kernel::uapi::LSM_ID_PROVFS as u64;

    type Task = TaskState;
    type File = FileState;
    type Inode = InodeState;
    type SuperBlock = SuperBlockState;

    fn init() -> Result {
        policy::init()?;
        pr_info!("up and running\n");
        Ok(())
    }

    fn initcall_fs() -> Result {
        control::register()
    }

    fn bprm_committed_creds(cx: &Context<'_>, program: &Binprm) {
        identity::executed(cx, program);
    }

    fn task_alloc(cx: &Context<'_>, child: &mut TaskState, _clone_flags: u64) -> Result {
        identity::inherit(cx, child);
        Ok(())
    }

    fn task_fix_setuid(cx: &Context<'_>) -> Result {
        identity::user_changed(cx);
        Ok(())
    }

    fn file_open(cx: &Context<'_>, file: &LocalFile) -> Result {
        if file.was_created() || file.is_unnamed() {
            record::created(cx, file);
        }
        Ok(())
    }

    #[inline]
    fn file_permission(cx: &Context<'_>, file: &LocalFile, access: Access) -> Result {
        if access.is_write() && !record::is_settled(cx, file) {
            record::writing(cx, file);
        }
        Ok(())
    }

    fn file_release(cx: &Context<'_>, file: &LocalFile) {
        if record::is_concerned(file) {
            record::released(cx, file);
        }
    }

    fn inode_post_setxattr(cx: &Context<'_>, dentry: &Dentry, name: &CStr) {
        record::xattr_changed(cx, dentry, name);
    }

    fn inode_post_removexattr(cx: &Context<'_>, dentry: &Dentry, name: &CStr) {
        record::xattr_changed(cx, dentry, name);
    }

    fn sb_remount(_cx: &Context<'_>, super_block: &SuperBlock) -> Result {
        record::remounted(super_block);
        Ok(())
    }
}
