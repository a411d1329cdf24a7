//! Records in a database, for file systems without `user.*` attributes.
//!
//! The key is the path below the source: such file systems have no lasting inode numbers either. So
//! a file that is renamed behind the back of the mount loses its record.

use std::{ffi::CStr, path::Path};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};
use rustix::io::{Errno, Result};

use crate::attributes::Attributes;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS record (
        path BLOB NOT NULL,
        name BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (path, name)
    ) STRICT, WITHOUT ROWID;";

/// Everything at a path and below it. `0` is the character behind `/`.
const AT_AND_BELOW: &str =
    "(path = ?1 OR path > CAST(?1 || '/' AS BLOB) AND path < CAST(?1 || '0' AS BLOB))";

/// The database.
#[derive(Debug)]
pub struct Sidecar(Mutex<Connection>);

impl Sidecar {
    /// Opens it, or makes it.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Sidecar(Mutex::new(connection)))
    }

    /// A file, or a folder with all that is in it, was renamed.
    pub fn renamed(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.transaction(|connection| {
            remove(connection, to)?;
            move_all(connection, from, to)
        })
    }

    /// Two files or folders have changed places.
    pub fn exchanged(&self, one: &[u8], other: &[u8]) -> Result<()> {
        // No name has a NUL.
        let between = b"\0";
        self.transaction(|connection| {
            move_all(connection, one, between)?;
            move_all(connection, other, one)?;
            move_all(connection, between, other)
        })
    }

    /// A file or folder is gone.
    pub fn removed(&self, path: &[u8]) -> Result<()> {
        self.transaction(|connection| remove(connection, path))
    }

    /// Does all of it or nothing.
    fn transaction(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        let mut connection = self.0.lock();
        let done = connection.transaction().and_then(|transaction| {
            work(&transaction)?;
            transaction.commit()
        });
        done.map_err(failed)
    }
}

fn remove(connection: &Connection, path: &[u8]) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM record WHERE {AT_AND_BELOW}");
    connection.prepare_cached(&sql)?.execute([path])?;
    Ok(())
}

fn move_all(connection: &Connection, from: &[u8], to: &[u8]) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE record SET path = CAST(?2 || substr(path, length(?1) + 1) AS BLOB) WHERE {AT_AND_BELOW}"
    );
    connection.prepare_cached(&sql)?.execute([from, to])?;
    Ok(())
}

fn failed(error: rusqlite::Error) -> Errno {
    log::error!("the database of records: {error}");
    Errno::IO
}

/// The attributes that the database has for a path.
#[derive(Debug)]
pub struct OfPath<'a> {
    database: &'a Sidecar,
    path: Vec<u8>,
}

impl<'a> OfPath<'a> {
    /// Those of a path below the source.
    pub fn new(database: &'a Sidecar, path: Vec<u8>) -> Self {
        OfPath { database, path }
    }
}

impl Attributes for OfPath<'_> {
    fn get(&self, name: &CStr) -> Result<Option<Vec<u8>>> {
        let connection = self.database.0.lock();
        let sql = "SELECT value FROM record WHERE path = ?1 AND name = ?2";
        connection
            .prepare_cached(sql)
            .and_then(|mut query| {
                let params = params![self.path, name.to_bytes()];
                query.query_row(params, |row| row.get(0)).optional()
            })
            .map_err(failed)
    }

    fn list(&self) -> Result<Vec<u8>> {
        let connection = self.database.0.lock();
        let names = connection
            .prepare_cached("SELECT name FROM record WHERE path = ?1")
            .and_then(|mut query| {
                let rows = query.query_map([&self.path], |row| row.get::<_, Vec<u8>>(0))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
            .map_err(failed)?;
        Ok(names
            .iter()
            .flat_map(|name| [name, &b"\0"[..]].concat())
            .collect())
    }

    fn set(&self, name: &CStr, value: &[u8]) -> Result<()> {
        let connection = self.database.0.lock();
        connection
            .prepare_cached("REPLACE INTO record VALUES (?1, ?2, ?3)")
            .and_then(|mut query| query.execute(params![self.path, name.to_bytes(), value]))
            .map(|_| ())
            .map_err(failed)
    }

    fn remove(&self, name: &CStr) -> Result<()> {
        let connection = self.database.0.lock();
        connection
            .prepare_cached("DELETE FROM record WHERE path = ?1 AND name = ?2")
            .and_then(|mut query| query.execute(params![self.path, name.to_bytes()]))
            .map(|_| ())
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_follow_renames_of_folders_and_go_with_files() {
        let dir = tempfile::tempdir().unwrap();
        let database = Sidecar::open(&dir.path().join("records")).unwrap();
        let at = |path: &[u8]| OfPath::new(&database, path.to_vec());
        let get = |path: &[u8]| at(path).get(c"user.prov").unwrap();
        for path in [&b"a"[..], b"a/b", b"a/b/\xff", b"ab", b"c"] {
            at(path).set(c"user.prov", path).unwrap();
        }
        database.renamed(b"a", b"c").unwrap();
        assert_eq!(get(b"c").unwrap(), b"a");
        assert_eq!(get(b"c/b/\xff").unwrap(), b"a/b/\xff");
        assert_eq!(get(b"a/b"), None);
        assert_eq!(get(b"ab").unwrap(), b"ab");
        database.exchanged(b"ab", b"c").unwrap();
        assert_eq!(get(b"ab/b").unwrap(), b"a/b");
        assert_eq!(get(b"c").unwrap(), b"ab");
        database.removed(b"ab").unwrap();
        assert_eq!(get(b"ab/b"), None);
        at(b"c").remove(c"user.prov").unwrap();
        assert_eq!(at(b"c").list().unwrap(), b"");
    }
}
