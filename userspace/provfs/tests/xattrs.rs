//! Records on a real file system: by path, through links, by descriptor.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, symlink},
    path::Path,
};

use provfs::{Format, Reader, Session};
use rustix::fs::{OFlags, XattrFlags, setxattr};
use tempfile::TempDir;

/// A folder on a file system that keeps user.* attributes. Where the build folder does not, say
/// where one is.
fn folder() -> TempDir {
    let parent =
        std::env::var("PROVFS_TEST_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into());
    let dir = TempDir::new_in(&parent)
        .unwrap_or_else(|error| panic!("cannot make a folder in {parent}: {error}"));
    if let Err(error) = setxattr(dir.path(), "user.provfs.probe", b"", XattrFlags::empty()) {
        panic!(
            "{parent} keeps no user.* attributes ({error}): set PROVFS_TEST_DIR to a folder on ext4, xfs or btrfs"
        );
    }
    dir
}

fn stamp(path: &Path, key: &str, value: &str) {
    setxattr(path, key, value.as_bytes(), XattrFlags::empty()).unwrap();
}

#[test]
fn a_record_is_read_by_path_link_and_descriptor() {
    let dir = folder();
    let file = dir.path().join("file");
    let link = dir.path().join("link");
    fs::write(&file, "data").unwrap();
    symlink("file", &link).unwrap();
    assert_eq!(provfs::read(&file).unwrap(), None);

    stamp(&file, "user.prov.session", "s%2C1");
    stamp(&file, "user.prov.tool", "Edit");
    stamp(&file, "user.prov.ts", "2026-11-21T09:12:33Z");
    stamp(&file, "user.other", "x");
    let record = provfs::read(&file).unwrap().unwrap();
    assert_eq!(record.format, Format::Keys);
    assert_eq!(record.session, Some(Session::Declared("s,1".into())));
    assert_eq!(record.tool.as_ref().unwrap(), "Edit");
    assert_eq!(record.ts.as_ref().unwrap().unix, Some(1_795_252_353));
    assert_eq!(provfs::read(&link).unwrap().as_ref(), Some(&record));
    assert_eq!(Reader::new().follow_links(false).read(&link).unwrap(), None);
    assert_eq!(
        provfs::read_fd(File::open(&file).unwrap()).unwrap(),
        Some(record)
    );
}

#[test]
fn a_packed_record_is_read_and_the_later_one_counts() {
    let dir = folder();
    stamp(dir.path(), "user.prov", "ts=1795252353;s=new;t=Edit");
    let record = provfs::read(dir.path()).unwrap().unwrap();
    assert_eq!(
        (record.format, record.session),
        (Format::Packed, Some(Session::Declared("new".into())))
    );
    stamp(dir.path(), "user.prov.session", "newer");
    stamp(dir.path(), "user.prov.ts", "2026-11-21T09:12:34Z");
    let record = provfs::read(dir.path()).unwrap().unwrap();
    assert_eq!(record.session, Some(Session::Declared("newer".into())));
    assert_eq!(
        record.tool, None,
        "no field of one record goes into another"
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = folder();
    let missing = dir.path().join("missing");
    let error = provfs::read(&missing).unwrap_err();
    assert!(error.to_string().ends_with("missing\""), "{error}");
    assert_eq!(error.io_error().kind(), io::ErrorKind::NotFound);
    let unreadable = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::PATH.bits() as i32)
        .open(dir.path())
        .unwrap();
    let error = provfs::read_fd(&unreadable).unwrap_err();
    assert!(error.to_string().contains("file descriptor"), "{error}");
    assert!(error.advice().unwrap().contains("O_PATH"));
    let below = dir.path().join("file/below");
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(
        provfs::read(&below).unwrap_err().io_error().kind(),
        io::ErrorKind::NotADirectory
    );
    let circle = dir.path().join("circle");
    symlink("circle", &circle).unwrap();
    assert!(
        provfs::read(&circle)
            .unwrap_err()
            .advice()
            .unwrap()
            .contains("circle")
    );
    assert!(
        provfs::read("a\0b")
            .unwrap_err()
            .advice()
            .unwrap()
            .contains("NUL")
    );
}
