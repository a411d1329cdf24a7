// SPDX-License-Identifier: GPL-2.0-only

//! What the kernel tells us: one line for each hook, and nothing else.
//!
//! Every hook allows what is asked, but for what the administrator has protected and what is locked
//! to a session. See [`Lsm`] for what holds when each of them is called.

use kernel::{
    binprm::Binprm,
    fs::{
        super_block::FreezeGuard,
        Dentry,
        LocalFile,
        Path,
        SuperBlock, //
    },
    ioctl::_IOWR,
    lsm::{
        Access,
        Lsm,
        Mapping,
        RenameFlags, //
    },
    prelude::*,
    uapi::file_dedupe_range, //
};

use crate::{
    control,
    identity,
    past,
    policy,
    record,
    state::{
        self,
        FileState,
        InodeState,
        SuperBlockState,
        TaskState, //
    },
    Context,
    Provfs, //
};

/// The command of `ioctl(2)` that deduplicates.
const FIDEDUPERANGE: u32 = _IOWR::<file_dedupe_range>(0x94, 54);

#[vtable]
impl Lsm for Provfs {
    const ID: u64 = kernel::uapi::LSM_ID_PROVFS as u64;

    /// What another module denies is not done, and not recorded.
    const COMES_LAST: bool = true;

    type Task = TaskState;
    type File = FileState;
    type Inode = InodeState;
    type SuperBlock = SuperBlockState;

    #[inline]
    fn is_file_unused(state: &FileState) -> bool {
        state.is_unused()
    }

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

    fn ptrace_access_check(tracer: &TaskState, child: &TaskState, attach: bool) -> Result {
        identity::may_control(tracer, child, attach)
    }

    fn task_fix_setuid(cx: &Context<'_>) -> Result {
        identity::user_changed(cx);
        Ok(())
    }

    fn file_open(cx: &Context<'_>, file: &LocalFile) -> Result {
        if file.is_modified_by_open() {
            record::opening(cx, file);
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

    fn file_ioctl(cx: &Context<'_>, _file: &LocalFile, command: u32) -> Result {
        record::ioctl(cx, command == FIDEDUPERANGE);
        Ok(())
    }

    fn file_truncate(cx: &Context<'_>, file: &LocalFile) -> Result {
        record::truncating(cx, file);
        Ok(())
    }

    fn path_truncate(cx: &Context<'_>, path: &Path, unfrozen: &FreezeGuard<'_>) -> Result {
        record::truncating_path(cx, path, unfrozen);
        Ok(())
    }

    fn path_mknod(cx: &Context<'_>, path: &Path, is_regular: bool) -> Result {
        // What `open(2)` makes comes to `file_open()`.
        if is_regular && !cx.task().is_walking_path() {
            record::making_node(cx, path);
        }
        Ok(())
    }

    fn path_post_mknod(cx: &Context<'_>, dentry: &Dentry, unfrozen: &FreezeGuard<'_>) {
        record::made_node(cx, dentry, unfrozen);
    }

    fn mmap_file(cx: &Context<'_>, file: &LocalFile, mapping: Mapping) -> Result {
        if mapping.modifies_file() && !record::is_settled(cx, file) {
            record::mapping_writable(cx, file);
        }
        Ok(())
    }

    fn mmap_backing_file(cx: &Context<'_>, backing: &LocalFile, mapping: Mapping) -> Result {
        if mapping.modifies_file() {
            record::mapping(cx, backing, true);
        }
        Ok(())
    }

    fn file_mprotect(cx: &Context<'_>, file: &LocalFile, mapping: Mapping) -> Result {
        if mapping.modifies_file() {
            record::mapping(cx, file, mapping.is_tracked());
        }
        Ok(())
    }

    fn path_rename(cx: &Context<'_>, _old: &Path, flags: RenameFlags) -> Result {
        state::of_task(cx).set_renaming(flags.is_exchange());
        Ok(())
    }

    fn inode_rename(cx: &Context<'_>, old: &Dentry, new: &Dentry) -> Result {
        past::renaming(cx, old, new);
        Ok(())
    }

    fn inode_link(_cx: &Context<'_>, old: &Dentry) -> Result {
        if let Some(inode) = old.inode() {
            state::of_inode(inode).set_links();
        }
        Ok(())
    }

    fn file_release(cx: &Context<'_>, file: &LocalFile) {
        if record::is_concerned(file) {
            record::released(cx, file);
        }
    }

    fn inode_copy_up(cx: &Context<'_>, _source: &Dentry) -> Result {
        state::of_task(cx).set_copying();
        Ok(())
    }

    fn inode_copy_up_xattr(cx: &Context<'_>, name: &CStr) {
        record::copying_xattr(cx, name);
    }

    fn inode_setxattr(cx: &Context<'_>, _dentry: &Dentry, name: &CStr) -> Result {
        record::may_change_xattr(cx, name)
    }

    fn inode_removexattr(cx: &Context<'_>, _dentry: &Dentry, name: &CStr) -> Result {
        record::may_change_xattr(cx, name)
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
