//! Reading the record of a file: one system call for a file without one, and one more for each
//! field that is asked for.

use std::{
    ffi::CStr,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use rustix::io::Errno;

use crate::{
    error::{Object, ReadError},
    pure::record::{Key, PACKED},
    record::{Decoder, Record, key_of},
    source::{BUFFER, Source},
};

/// Reads the record of a file, or of the file that a symbolic link leads to. `None` if it has
/// none.
///
/// ```
/// let file = tempfile::NamedTempFile::new()?;
/// assert!(provfs::read(file.path())?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ReadError`] if the file is not there, may not be read, or is on a file system without
/// `user.*` attributes. Bytes that are no record are no error: they are [`Session::Opaque`].
///
/// [`Session::Opaque`]: crate::Session::Opaque
pub fn read(path: impl AsRef<Path>) -> Result<Option<Record>, ReadError> {
    Reader::new().read(path)
}

/// Reads the record of an open file. `None` if it has none.
///
/// ```
/// use std::fs::File;
///
/// let file = File::open("Cargo.toml")?;
/// assert_eq!(provfs::read_fd(&file)?, provfs::read("Cargo.toml")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`read`]; and a descriptor that was opened with `O_PATH` cannot be read (`EBADF`).
pub fn read_fd(fd: impl AsFd) -> Result<Option<Record>, ReadError> {
    Reader::new().stored_fd(&fd)?.record()
}

/// Reads the records of many files, with the same buffers.
///
/// ```
/// use std::os::unix::fs::symlink;
///
/// let dir = tempfile::tempdir()?;
/// let link = dir.path().join("dangling");
/// symlink("nowhere", &link)?;
/// let mut reader = provfs::Reader::new();
/// assert!(reader.read(&link).is_err());
/// // The link itself is there. It has no record, since Linux keeps no user.* attributes for links.
/// assert!(reader.follow_links(false).read(&link)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    follow_links: bool,
    /// The path as the kernel takes it, with a NUL behind it: made once for all calls.
    path: Vec<u8>,
    buffer: Vec<u8>,
    names: Names,
}

impl Reader {
    /// Follows symbolic links.
    pub fn new() -> Self {
        Reader {
            follow_links: true,
            path: Vec::new(),
            buffer: Vec::with_capacity(BUFFER),
            names: Names::default(),
        }
    }

    /// Whether a symbolic link stands for the file that it leads to.
    pub fn follow_links(&mut self, yes: bool) -> &mut Self {
        self.follow_links = yes;
        self
    }

    /// Reads the record of a file. `None` if it has none.
    ///
    /// # Errors
    ///
    /// As the function [`read`].
    pub fn read(&mut self, path: impl AsRef<Path>) -> Result<Option<Record>, ReadError> {
        self.stored(path.as_ref())?.record()
    }

    /// Looks which fields of a record a file has, and reads none yet.
    ///
    /// Whoever wants some files out of many asks for the field that decides, and leaves the others
    /// where they are:
    ///
    /// ```
    /// # use provfs::{Key, Reader, Session};
    /// # use rustix::fs::{XattrFlags, setxattr};
    /// # let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR"))?;
    /// # setxattr(file.path(), "user.prov.session", b"s1", XattrFlags::empty())?;
    /// # setxattr(file.path(), "user.prov.tool", b"Edit", XattrFlags::empty())?;
    /// let mut reader = Reader::new();
    /// let mut stored = reader.stored(file.path())?;
    /// assert!(stored.is_stamped());
    /// let session = stored.fetch(&[Key::Session])?.session.as_ref();
    /// assert_eq!(session, Some(&Session::Declared("s1".into())));
    /// let record = stored.record()?.ok_or("it vanished")?;
    /// assert_eq!(record.tool, Some("Edit".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError::List`].
    pub fn stored<'r>(&'r mut self, path: &Path) -> Result<Stored<'r>, ReadError> {
        self.path.clear();
        self.path.extend_from_slice(path.as_os_str().as_bytes());
        self.path.push(0);
        // Only a NUL inside can be wrong, and no file has one in its name.
        let c_path = CStr::from_bytes_with_nul(&self.path).map_err(|_| ReadError::List {
            object: Object::Path(path.to_owned()),
            source: Errno::INVAL.into(),
        })?;
        let source = if self.follow_links {
            Source::Path(c_path)
        } else {
            Source::Link(c_path)
        };
        Stored::list(source, &mut self.buffer, &mut self.names)
    }

    /// The same for an open file.
    ///
    /// # Errors
    ///
    /// [`ReadError::List`].
    pub fn stored_fd<'r>(&'r mut self, fd: &'r impl AsFd) -> Result<Stored<'r>, ReadError> {
        Stored::list(Source::Fd(fd.as_fd()), &mut self.buffer, &mut self.names)
    }
}

impl Default for Reader {
    fn default() -> Self {
        Reader::new()
    }
}

/// Names of attributes, and what of a record they stand for. Many files have the same as the one
/// before, and to compare all of them at once costs less than to tell each.
#[derive(Clone, Debug, Default)]
struct Names {
    /// As the kernel lists them, a NUL behind each.
    list: Vec<u8>,
    /// Keys, a bit each at [`Key::index`].
    keys: u8,
    packed: bool,
}

impl Names {
    fn tell(&mut self, list: &[u8]) {
        if self.list == list {
            return;
        }
        (self.keys, self.packed) = (0, false);
        self.list.clear();
        self.list.extend_from_slice(list);
        let mut rest = list;
        while let Ok(name) = CStr::from_bytes_until_nul(rest) {
            rest = &rest[name.to_bytes_with_nul().len()..];
            if name == PACKED {
                self.packed = true;
            } else if let Some(key) = key_of(name.to_bytes()) {
                self.keys |= bit(key);
            }
        }
    }
}

/// A record as it lies in a file: which fields there are is known, their values are read when
/// they are asked for. [`Reader::stored`] makes it.
///
/// A writer may stamp the file in between. Then fields of two records can meet, as they can for
/// every reader of several attributes.
#[derive(Debug)]
pub struct Stored<'r> {
    source: Source<'r>,
    buffer: &'r mut Vec<u8>,
    /// Keys that are there and were not read yet, a bit each at [`Key::index`].
    unread: u8,
    /// Likewise the packed record.
    unread_packed: bool,
    stamped: bool,
    decoder: Decoder,
}

impl<'r> Stored<'r> {
    fn list(
        source: Source<'r>,
        buffer: &'r mut Vec<u8>,
        names: &mut Names,
    ) -> Result<Self, ReadError> {
        source.names(buffer).map_err(|errno| ReadError::List {
            object: source.object(),
            source: errno.into(),
        })?;
        names.tell(buffer);
        Ok(Stored {
            source,
            buffer,
            unread: names.keys,
            unread_packed: names.packed,
            stamped: names.keys != 0 || names.packed,
            decoder: Decoder::default(),
        })
    }

    /// Whether there is a record, in whatever form.
    pub fn is_stamped(&self) -> bool {
        self.stamped
    }

    /// Reads some fields, those of them that are there and were not read before. The others of
    /// the record may be empty yet.
    ///
    /// Which of two formats counts can only be told from all of it, so where a file has both, all
    /// is read.
    ///
    /// # Errors
    ///
    /// [`ReadError::Get`].
    pub fn fetch(&mut self, keys: &[Key]) -> Result<&Record, ReadError> {
        let both = self.unread_packed && self.unread != 0;
        let keys = if both { &Key::ALL[..] } else { keys };
        if self.unread_packed {
            self.unread_packed = false;
            self.get(None)?;
        }
        for &key in keys {
            if self.unread & bit(key) != 0 {
                self.unread &= !bit(key);
                self.get(Some(key))?;
            }
        }
        Ok(self.decoder.so_far())
    }

    /// Reads what was not read yet. `None` if there is no record.
    ///
    /// # Errors
    ///
    /// [`ReadError::Get`].
    pub fn record(mut self) -> Result<Option<Record>, ReadError> {
        self.fetch(&Key::ALL)?;
        Ok(self.decoder.finish())
    }

    /// A record of some fields. Those that are not there are empty, the others may be.
    ///
    /// # Errors
    ///
    /// [`ReadError::Get`].
    pub fn fields(mut self, keys: &[Key]) -> Result<Record, ReadError> {
        self.fetch(keys)?;
        Ok(self.decoder.finish().unwrap_or_default())
    }

    /// Reads a key, or the packed record.
    fn get(&mut self, key: Option<Key>) -> Result<(), ReadError> {
        let source = &self.source;
        let name = key.map_or(PACKED, Key::name);
        match source.value(name, self.buffer) {
            Ok(()) => match key {
                Some(key) => self.decoder.add_key(key, self.buffer),
                None => self.decoder.add_packed(self.buffer),
            },
            // Somebody removed it meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => {
                return Err(ReadError::Get {
                    object: source.object(),
                    key: name.to_string_lossy().into_owned(),
                    source: errno.into(),
                });
            }
        }
        Ok(())
    }
}

fn bit(key: Key) -> u8 {
    1 << key.index()
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;
    use crate::{
        record::{Format, Session, Value},
        source::fake::Fake,
    };

    impl Fake {
        fn stored<'r>(&'r self, buffer: &'r mut Vec<u8>) -> Result<Stored<'r>, ReadError> {
            Stored::list(Source::Fake(self), buffer, &mut Names::default())
        }

        fn read(&self) -> Result<Option<Record>, ReadError> {
            self.stored(&mut Vec::with_capacity(BUFFER))?.record()
        }
    }

    #[test]
    fn only_what_is_asked_for_is_read() {
        let file = Fake::default()
            .with(c"user.prov.session", b"s")
            .with(c"user.prov.tool", b"t")
            .with(c"user.prov.ts", b"5");
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut stored = file.stored(&mut buffer).unwrap();
        assert!(stored.is_stamped());
        assert!(file.asked.borrow().is_empty());
        let record = stored.fetch(&[Key::Turn, Key::Tool]).unwrap();
        assert_eq!(
            (record.tool.as_ref().unwrap(), &record.session),
            (&"t".into(), &None)
        );
        assert_eq!(*file.asked.borrow(), [c"user.prov.tool".to_owned()]);
        stored.fetch(&[Key::Tool]).unwrap();
        assert_eq!(file.asked.borrow().len(), 1, "asked for once");
        assert!(stored.record().unwrap().unwrap().session.is_some());
        assert_eq!(file.asked.borrow().len(), 3);
    }

    #[test]
    fn each_file_has_its_own_names_whatever_the_one_before_had() {
        let keys = Fake::default()
            .with(c"user.prov.session", b"keys")
            .with(c"user.prov.turn", b"7");
        let packed = Fake::default().with(c"user.prov", b"ts=6;s=packed");
        let other = Fake::default().with(c"user.prow", b"as long a name");
        let (mut buffer, mut names) = (Vec::with_capacity(BUFFER), Names::default());
        let mut read = |file| {
            let stored = Stored::list(Source::Fake(file), &mut buffer, &mut names).unwrap();
            (stored.unread, stored.unread_packed, stored.is_stamped())
        };
        let of_keys = (bit(Key::Session) | bit(Key::Turn), false, true);
        for _ in 0..2 {
            assert_eq!(read(&keys), of_keys);
            assert_eq!(read(&keys), of_keys);
            assert_eq!(read(&packed), (0, true, true));
            assert_eq!(read(&other), (0, false, false));
            assert_eq!(read(&other), (0, false, false));
        }
    }

    #[test]
    fn where_there_are_two_formats_all_is_read() {
        let file = Fake::default()
            .with(c"user.prov.session", b"keys")
            .with(c"user.prov.ts", b"5")
            .with(c"user.prov", b"ts=6;s=packed");
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut stored = file.stored(&mut buffer).unwrap();
        let session = stored.fetch(&[Key::Session]).unwrap().session.clone();
        assert_eq!(session, Some(Session::Declared("packed".into())));
        assert!(
            Fake::default()
                .stored(&mut Vec::new())
                .is_ok_and(|none| !none.is_stamped())
        );
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
        let mut buffer = Vec::with_capacity(BUFFER);
        let record = file.stored(&mut buffer).unwrap().record().unwrap();
        assert_eq!(
            record.unwrap().session,
            Some(Session::Declared(Value::from(&[b's'; 5000][..])))
        );
        let small = Fake::default().with(c"user.prov.session", b"s");
        assert!(small.stored(&mut buffer).unwrap().is_stamped());
        assert!(buffer.capacity() < 2 * BUFFER, "{}", buffer.capacity());
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
