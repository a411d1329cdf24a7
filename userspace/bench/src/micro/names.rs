//! Making files, giving them other names, and deleting them.

use std::ffi::CString;

use rustix::{
    fs::{Mode, OFlags, mkdir, open, rename, rmdir, unlink},
    io::write,
};

use super::{MODE, NEW, Place, Row, c_path, contents::rewrite, make_all, paths, to_path};
use crate::{
    error::{Context, Result},
    meter::Reading,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "create_0k",
        about: "create, close",
        ops: 300,
        measure: create_0k,
    },
    Row {
        name: "create_1",
        about: "create, write 1 byte, close",
        ops: 300,
        measure: create_1,
    },
    Row {
        name: "create_4k",
        about: "create, write 4 KiB, close",
        ops: 300,
        measure: create_4k,
    },
    Row {
        name: "create_10k",
        about: "create, write 10 KiB, close",
        ops: 300,
        measure: create_10k,
    },
    Row {
        name: "delete_0k",
        about: "unlink an empty file",
        ops: 300,
        measure: delete_0k,
    },
    Row {
        name: "delete_10k",
        about: "unlink a file of 10 KiB",
        ops: 300,
        measure: delete_10k,
    },
    Row {
        name: "create_unlink",
        about: "create, close, unlink",
        ops: 200,
        measure: create_unlink,
    },
    Row {
        name: "rename",
        about: "rename to a free name",
        ops: 400,
        measure: rename_free,
    },
    Row {
        name: "rename_over",
        about: "rename over another file",
        ops: 300,
        measure: rename_over,
    },
    Row {
        name: "atomic_save",
        about: "create, write 4 KiB, close, rename over the file",
        ops: 200,
        measure: atomic_save,
    },
    Row {
        name: "mkdir_rmdir",
        about: "mkdir, rmdir",
        ops: 200,
        measure: mkdir_rmdir,
    },
];

fn create(place: &Place<'_>, ops: u32, data: &[u8]) -> Result<Reading> {
    let paths = paths(place.dir, "file", ops);
    place.meter.measure(|| {
        for path in &paths {
            let file = open(path, NEW, MODE).at("create", to_path(path))?;
            if !data.is_empty() {
                write(&file, data).at("write to", to_path(path))?;
            }
        }
        Ok(())
    })
}

fn create_0k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    create(place, ops, b"")
}

fn create_1(place: &Place<'_>, ops: u32) -> Result<Reading> {
    create(place, ops, b"x")
}

fn create_4k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    create(place, ops, &[b'x'; 4 << 10])
}

fn create_10k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    create(place, ops, &[b'x'; 10 << 10])
}

fn delete(place: &Place<'_>, ops: u32, size: usize) -> Result<Reading> {
    let paths = paths(place.dir, "file", ops);
    make_all(&paths, size)?;
    place.meter.measure(|| {
        for path in &paths {
            unlink(path).at("delete", to_path(path))?;
        }
        Ok(())
    })
}

fn delete_0k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    delete(place, ops, 0)
}

fn delete_10k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    delete(place, ops, 10 << 10)
}

fn create_unlink(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = c_path(&place.dir.join("file"));
    place.meter.measure(|| {
        for _ in 0..ops {
            drop(open(&path, NEW, MODE).at("create", to_path(&path))?);
            unlink(&path).at("delete", to_path(&path))?;
        }
        Ok(())
    })
}

fn two_names(place: &Place<'_>) -> (CString, CString) {
    (
        c_path(&place.dir.join("one")),
        c_path(&place.dir.join("two")),
    )
}

fn rename_free(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let (mut one, mut two) = two_names(place);
    make_all(std::slice::from_ref(&one), 1)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            rename(&one, &two).at("rename", to_path(&one))?;
            std::mem::swap(&mut one, &mut two);
        }
        Ok(())
    })
}

fn rename_over(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let from = paths(place.dir, "from", ops);
    let over = paths(place.dir, "over", ops);
    make_all(&over, 1)?;
    make_all(&from, 1)?;
    place.meter.measure(|| {
        for (from, over) in from.iter().zip(&over) {
            rename(from, over).at("rename", to_path(from))?;
        }
        Ok(())
    })
}

fn atomic_save(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let (file, new) = two_names(place);
    make_all(std::slice::from_ref(&file), 4 << 10)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            rewrite(&new, OFlags::CREATE | OFlags::WRONLY, &[b'x'; 4 << 10])?;
            rename(&new, &file).at("rename", to_path(&new))?;
        }
        Ok(())
    })
}

fn mkdir_rmdir(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = c_path(&place.dir.join("dir"));
    place.meter.measure(|| {
        for _ in 0..ops {
            mkdir(&path, Mode::from_raw_mode(0o755)).at("make", to_path(&path))?;
            rmdir(&path).at("remove", to_path(&path))?;
        }
        Ok(())
    })
}
