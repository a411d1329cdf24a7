//! `/sys/kernel/security/provfs/self`: what the kernel says of this process, and where the session
//! is fixed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use provfs::pure::text::{Writer, unescape};

/// Why the session could not be fixed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// There is no such file.
    #[error(
        "--lock takes a kernel with provfs, and {} is not there: boot one, mount securityfs, or leave out --lock",
        .0.display()
    )]
    Absent(PathBuf),
    /// Nothing is declared.
    #[error(
        "there is no session to fix: declare one with --session, or make one with --new-session"
    )]
    NoSession,
    /// Somebody fixed another one.
    #[error(
        "the session is fixed to \"{}\" for this process and all that it starts: no other can be declared",
        .0.escape_ascii()
    )]
    Fixed(Vec<u8>),
    /// The kernel refused it.
    #[error("cannot fix the session in {}: {source}", .path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file.
pub(crate) struct Own {
    path: PathBuf,
    /// The session in force, if one is declared.
    session: Option<Vec<u8>>,
    locked: bool,
}

impl Own {
    /// Reads it; [`None`] if this kernel has none.
    pub(crate) fn read(root: &Path) -> Option<Self> {
        let path = root.join("sys/kernel/security/provfs/self");
        let text = fs::read(&path).ok()?;
        Some(Own::parse(path, &text))
    }

    /// What is declared comes first, in lines `key=value`; behind an empty line is what the kernel
    /// knows. No claim can look like that: its control bytes are escaped.
    fn parse(path: PathBuf, text: &[u8]) -> Self {
        let mut lines = text.split(|&byte| byte == b'\n');
        let claims = lines.by_ref().take_while(|line| !line.is_empty());
        let session = claims
            .filter_map(|line| line.strip_prefix(b"session="))
            .last()
            .map(raw);
        Own {
            path,
            session,
            locked: lines.any(|line| line == b"locked=1"),
        }
    }

    /// Fails if a session is fixed, and it is not this one.
    pub(crate) fn allows(&self, session: &OsStr) -> Result<(), LockError> {
        match &self.session {
            Some(fixed) if self.locked && fixed != session.as_bytes() => {
                Err(LockError::Fixed(fixed.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Fixes this session, or the one that is declared.
    pub(crate) fn lock(&self, session: Option<&OsStr>) -> Result<(), LockError> {
        if let Some(session) = session {
            self.allows(session)?;
        }
        if self.locked {
            return Ok(());
        }
        // In one piece, so that all of it is done or nothing.
        let mut text = Vec::new();
        match session {
            Some(session) => {
                text.extend_from_slice(b"session=");
                text.extend_from_slice(session.as_bytes());
                text.push(b'\n');
            }
            None if self.session.is_none() => return Err(LockError::NoSession),
            None => {}
        }
        text.extend_from_slice(b"lock\n");
        self.write(&text).map_err(|source| LockError::Refused {
            path: self.path.clone(),
            source,
        })
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).open(&self.path)?;
        match file.write(text)? {
            written if written == text.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }
}

/// A value without its escapes.
fn raw(stored: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; stored.len()];
    let mut out = Writer::new(&mut buf);
    // It never gets longer.
    unescape(stored, &mut out);
    out.into_bytes().to_vec()
}

/// Fixes the session of this process, or says why that cannot be.
pub(crate) fn lock(
    root: &Path,
    own: Option<&Own>,
    session: Option<&OsStr>,
) -> Result<(), LockError> {
    match own {
        Some(own) => own.lock(session),
        None => Err(LockError::Absent(
            root.join("sys/kernel/security/provfs/self"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own(text: &str) -> (tempfile::NamedTempFile, Own) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = Own::parse(file.path().to_owned(), text.as_bytes());
        (file, own)
    }

    fn written(file: &tempfile::NamedTempFile) -> String {
        fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn claims_and_facts_are_kept_apart() {
        let (_file, own) =
            own("session=a%3Bb\ntool=locked=1\n\ncomm=sh\npid=4\nsession=no\nlocked=0\n");
        assert_eq!(
            (own.session.as_deref(), own.locked),
            (Some(&b"a;b"[..]), false)
        );
        let (_file, own) = self::own("\ncomm=sh\nlocked=1\n");
        assert_eq!((own.session, own.locked), (None, true));
    }

    #[test]
    fn the_session_is_declared_and_fixed_in_one_piece() {
        let (file, own) = own("\nlocked=0\n");
        own.lock(Some(OsStr::new("s 1"))).unwrap();
        assert_eq!(written(&file), "session=s 1\nlock\n");
    }

    #[test]
    fn the_session_in_force_is_fixed_if_there_is_one() {
        let (file, own) = own("session=s1\n\nlocked=0\n");
        own.lock(None).unwrap();
        assert_eq!(written(&file), "lock\n");
        let (file, own) = self::own("tool=x\n\nlocked=0\n");
        assert!(matches!(own.lock(None), Err(LockError::NoSession)));
        assert_eq!(written(&file), "");
    }

    #[test]
    fn what_is_fixed_stays() {
        let (file, own) = own("session=s1\n\nlocked=1\n");
        own.lock(None).unwrap();
        own.lock(Some(OsStr::new("s1"))).unwrap();
        let error = own.lock(Some(OsStr::new("s2"))).unwrap_err().to_string();
        assert!(
            error.starts_with("the session is fixed to \"s1\""),
            "{error}"
        );
        assert_eq!(written(&file), "");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _ = Own::parse(PathBuf::new(), &text);
        }
    }
}
