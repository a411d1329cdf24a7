//! Reading the record of a file: one system call for a file without one.

use std::{
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{fgetxattr, flistxattr, getxattr, lgetxattr, listxattr, llistxattr},
    io::{Errno, Result},
};

use crate::{
    error::{Object, ReadError},
    pure::record::{Key, PACKED},
    record::Record,
};

/// Room for names or a value at first. Records fit, and so do the names of most files.
const BUFFER: usize = 4096;

/// The most that the kernel returns: `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` in
/// `include/uapi/linux/limits.h`.
const BUFFER_MAX: usize = 65536;

/// Reads the record of a file, or of the file that a symbolic link leads to. `None` if it has
/// none.
///
/// ```
/// let file = tempfile::NamedTempFile::new()?;
/// assert!(provfs::read(file.path())?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> std::result::Result<Option<Record>, ReadError> {
    Reader::new().read(path)
}

/// Reads the record of an open file. A descriptor opened with `O_PATH` will not do.
pub fn read_fd(fd: impl AsFd) -> std::result::Result<Option<Record>, ReadError> {
    let fd = fd.as_fd();
    read_from(&fd, || Object::Fd(fd.as_raw_fd()))
}

/// Reads records as told.
///
/// ```
/// use std::os::unix::fs::symlink;
///
/// let dir = tempfile::tempdir()?;
/// let link = dir.path().join("dangling");
/// symlink("nowhere", &link)?;
/// assert!(provfs::read(&link).is_err());
/// // The link itself is there. It has no record, since Linux keeps no user.* attributes for links.
/// assert!(provfs::Reader::new().follow_links(false).read(&link)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    follow_links: bool,
}

impl Reader {
    /// Follows symbolic links.
    pub fn new() -> Self {
        Reader { follow_links: true }
    }

    /// Whether a symbolic link stands for the file that it leads to.
    pub fn follow_links(&mut self, yes: bool) -> &mut Self {
        self.follow_links = yes;
        self
    }

    /// Reads the record of a file. `None` if it has none.
    pub fn read(&self, path: impl AsRef<Path>) -> std::result::Result<Option<Record>, ReadError> {
        let path = path.as_ref();
        let object = || Object::Path(path.to_owned());
        if self.follow_links {
            read_from(&path, object)
        } else {
            read_from(&Link(path), object)
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Reader::new()
    }
}

/// What has extended attributes. Tests have one in memory.
trait Source {
    /// Names, each with a NUL behind it.
    fn list(&self, buf: &mut [u8]) -> Result<usize>;
    /// The value of one name.
    fn get(&self, name: &CStr, buf: &mut [u8]) -> Result<usize>;
}

impl Source for &Path {
    fn list(&self, buf: &mut [u8]) -> Result<usize> {
        listxattr(*self, buf)
    }
    fn get(&self, name: &CStr, buf: &mut [u8]) -> Result<usize> {
        getxattr(*self, name, buf)
    }
}

/// A path whose last component is not followed.
struct Link<'a>(&'a Path);

impl Source for Link<'_> {
    fn list(&self, buf: &mut [u8]) -> Result<usize> {
        llistxattr(self.0, buf)
    }
    fn get(&self, name: &CStr, buf: &mut [u8]) -> Result<usize> {
        lgetxattr(self.0, name, buf)
    }
}

impl Source for BorrowedFd<'_> {
    fn list(&self, buf: &mut [u8]) -> Result<usize> {
        flistxattr(self, buf)
    }
    fn get(&self, name: &CStr, buf: &mut [u8]) -> Result<usize> {
        fgetxattr(self, name, buf)
    }
}

fn read_from(
    source: &impl Source,
    object: impl Fn() -> Object,
) -> std::result::Result<Option<Record>, ReadError> {
    let mut names = [0; BUFFER];
    let names = fetch(&mut names, |buf| source.list(buf)).map_err(|errno| ReadError::List {
        object: object(),
        source: errno.into(),
    })?;

    let mut found = Vec::new();
    for name in [PACKED].into_iter().chain(Key::ALL.map(Key::name)) {
        // Names that are not there are not asked for: most files have no record at all, or one
        // packed.
        if !names
            .split(|&byte| byte == 0)
            .any(|listed| listed == name.to_bytes())
        {
            continue;
        }
        let mut value = [0; BUFFER];
        match fetch(&mut value, |buf| source.get(name, buf)) {
            Ok(value) => found.push((name.to_bytes(), value.into_owned())),
            // Somebody removed it meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => {
                let key = name.to_string_lossy().into_owned();
                return Err(ReadError::Get {
                    object: object(),
                    key,
                    source: errno.into(),
                });
            }
        }
    }
    Ok(Record::from_xattrs(found))
}

/// Calls `call` with `buf`, and with a larger buffer if that is too small.
fn fetch<'b>(
    buf: &'b mut [u8; BUFFER],
    mut call: impl FnMut(&mut [u8]) -> Result<usize>,
) -> Result<std::borrow::Cow<'b, [u8]>> {
    match call(buf) {
        Ok(len) => Ok(buf[..len].into()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; BUFFER_MAX];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large.into())
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ffi::CString};

    use super::*;
    use crate::record::{Format, Session, Value};

    /// A file in memory, on which one call fails.
    #[derive(Default)]
    struct Fake {
        xattrs: BTreeMap<CString, Vec<u8>>,
        fail_list: Option<Errno>,
        fail_get: Option<(&'static CStr, Errno)>,
    }

    impl Fake {
        fn with(mut self, name: &CStr, value: &[u8]) -> Self {
            self.xattrs.insert(name.to_owned(), value.to_vec());
            self
        }

        fn read(&self) -> std::result::Result<Option<Record>, ReadError> {
            read_from(self, || Object::Path("/a/file".into()))
        }
    }

    fn copy(value: &[u8], buf: &mut [u8]) -> Result<usize> {
        buf.get_mut(..value.len())
            .ok_or(Errno::RANGE)?
            .copy_from_slice(value);
        Ok(value.len())
    }

    impl Source for Fake {
        fn list(&self, buf: &mut [u8]) -> Result<usize> {
            match self.fail_list {
                Some(errno) => Err(errno),
                None => {
                    let names: Vec<_> = self
                        .xattrs
                        .keys()
                        .map(|name| name.as_bytes_with_nul())
                        .collect();
                    copy(&names.concat(), buf)
                }
            }
        }
        fn get(&self, name: &CStr, buf: &mut [u8]) -> Result<usize> {
            match self.fail_get {
                Some((failing, errno)) if failing == name => Err(errno),
                _ => copy(self.xattrs.get(name).ok_or(Errno::NODATA)?, buf),
            }
        }
    }

    #[test]
    fn a_file_without_a_record_is_no_error() {
        assert_eq!(Fake::default().read().unwrap(), None);
        let other = Fake::default()
            .with(c"user.provenance", b"x")
            .with(c"security.selinux", b"y");
        assert_eq!(other.read().unwrap(), None);
    }

    #[test]
    fn large_lists_and_values_are_read_whole() {
        let mut file = Fake::default().with(c"user.prov.session", &[b's'; 5000]);
        for i in 0..300 {
            file = file.with(
                &CString::new(format!("user.a.rather.long.name.{i}")).unwrap(),
                b"",
            );
        }
        let session = file.read().unwrap().unwrap().session;
        assert_eq!(
            session,
            Some(Session::Declared(Value::from(&[b's'; 5000][..])))
        );
    }

    #[test]
    fn a_key_that_vanishes_is_a_key_that_is_not_there() {
        let mut file = Fake::default()
            .with(c"user.prov.session", b"s")
            .with(c"user.prov.tool", b"t");
        file.fail_get = Some((c"user.prov.tool", Errno::NODATA));
        let record = file.read().unwrap().unwrap();
        assert_eq!((record.session.is_some(), record.tool), (true, None));
        file.fail_get = Some((c"user.prov.session", Errno::NODATA));
        assert_eq!(file.read().unwrap().unwrap().session, None);
    }

    #[test]
    fn errors_name_file_and_key() {
        let mut file = Fake::default().with(c"user.prov.session", b"s");
        file.fail_get = Some((c"user.prov.session", Errno::ACCESS));
        let error = file.read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read user.prov.session of \"/a/file\""
        );
        assert_eq!(
            error.io_error().kind(),
            std::io::ErrorKind::PermissionDenied
        );
        assert!(error.advice().unwrap().contains("root"));
        file.fail_list = Some(Errno::NOTSUP);
        let error = file.read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot list the extended attributes of \"/a/file\""
        );
        assert!(error.advice().unwrap().contains("ext4"));
    }

    #[test]
    fn the_later_of_two_formats_counts() {
        let read = |keys: &[u8], packed: &[u8]| {
            let file = Fake::default()
                .with(c"user.prov.session", b"keys")
                .with(c"user.prov.ts", keys)
                .with(c"user.prov", packed);
            file.read().unwrap().unwrap().format
        };
        assert_eq!(
            read(b"1970-01-01T00:00:05Z", b"ts=6;s=packed"),
            Format::Packed
        );
        assert_eq!(
            read(b"1970-01-01T00:00:07Z", b"ts=6;s=packed"),
            Format::Keys
        );
        assert_eq!(read(b"6", b"ts=6;s=packed"), Format::Keys);
        assert_eq!(read(b"6", b"nonsense"), Format::Keys);
    }

    #[test]
    fn bytes_that_are_no_record_are_shown() {
        let record = Fake::default()
            .with(c"user.prov", b"\xff;")
            .read()
            .unwrap()
            .unwrap();
        assert_eq!(
            record.session,
            Some(Session::Opaque(Value::from(&b"\xff;"[..])))
        );
        assert_eq!(record.format, Format::Packed);
    }
}
