//! Opening, reading and writing files that are there.

use std::{ffi::c_void, ptr, time::Duration};

use rustix::{
    fs::{OFlags, fstat, ftruncate, open, stat},
    io::{pread, pwrite, write},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use super::{MODE, Place, Row, c_path, make, make_all, paths, to_path};
use crate::{
    error::{Context, Result},
    meter::{Reading, pass_time},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "stat",
        about: "stat(2)",
        ops: 3_000,
        measure: stat_path,
    },
    Row {
        name: "fstat",
        about: "fstat(2)",
        ops: 8_000,
        measure: stat_open,
    },
    Row {
        name: "open_close_ro",
        about: "open read-only, close",
        ops: 3_000,
        measure: open_close_ro,
    },
    Row {
        name: "open_close_rw",
        about: "open for writing, write nothing, close",
        ops: 3_000,
        measure: open_close_rw,
    },
    Row {
        name: "read",
        about: "pread of 1 byte",
        ops: 8_000,
        measure: read_byte,
    },
    Row {
        name: "write_stamped",
        about: "pwrite of 1 byte to an open file that the process has stamped",
        ops: 10_000,
        measure: write_byte,
    },
    Row {
        name: "write_4k",
        about: "pwrite of 4 KiB to such a file",
        ops: 1_500,
        measure: write_4k,
    },
    Row {
        name: "rewrite_same",
        about: "open, write 1 byte, close: one file, same session, within the granularity",
        ops: 1_500,
        measure: rewrite_same,
    },
    Row {
        name: "rewrite_files",
        about: "the same, 500 files in turn",
        ops: 2_000,
        measure: rewrite_files,
    },
    Row {
        name: "rewrite_later",
        about: "the same, 400 files, each after the granularity",
        ops: 400,
        measure: rewrite_later,
    },
    Row {
        name: "rewrite_other",
        about: "open, write 1 byte, close: 400 files of another session",
        ops: 400,
        measure: rewrite_other,
    },
    Row {
        name: "append_reopen",
        about: "open, append 64 bytes, close",
        ops: 1_500,
        measure: append_reopen,
    },
    Row {
        name: "truncate",
        about: "ftruncate, to nothing and to 4 KiB in turn",
        ops: 2_000,
        measure: truncate,
    },
    Row {
        name: "truncate_write",
        about: "open with O_TRUNC, write 1 byte, close",
        ops: 300,
        measure: truncate_write,
    },
    Row {
        name: "mmap_write",
        about: "open, map shared, store 1 byte, unmap, close",
        ops: 500,
        measure: mmap_write,
    },
];

/// One file in the directory, with some contents.
fn one_file(place: &Place<'_>) -> Result<std::ffi::CString> {
    let path = c_path(&place.dir.join("file"));
    make(&path, 4096)?;
    Ok(path)
}

fn stat_path(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = one_file(place)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            stat(path.as_c_str()).at("stat", to_path(&path))?;
        }
        Ok(())
    })
}

fn stat_open(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = one_file(place)?;
    let file = open(&path, OFlags::RDONLY, MODE).at("open", to_path(&path))?;
    place.meter.measure(|| {
        for _ in 0..ops {
            fstat(&file).at("stat", to_path(&path))?;
        }
        Ok(())
    })
}

fn open_close(place: &Place<'_>, ops: u32, flags: OFlags) -> Result<Reading> {
    let path = one_file(place)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            open(&path, flags, MODE).at("open", to_path(&path))?;
        }
        Ok(())
    })
}

fn open_close_ro(place: &Place<'_>, ops: u32) -> Result<Reading> {
    open_close(place, ops, OFlags::RDONLY)
}

fn open_close_rw(place: &Place<'_>, ops: u32) -> Result<Reading> {
    open_close(place, ops, OFlags::RDWR)
}

fn read_byte(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = one_file(place)?;
    let file = open(&path, OFlags::RDONLY, MODE).at("open", to_path(&path))?;
    let mut buffer = [0];
    place.meter.measure(|| {
        for _ in 0..ops {
            pread(&file, &mut buffer, 0).at("read", to_path(&path))?;
        }
        Ok(())
    })
}

fn write_again(place: &Place<'_>, ops: u32, data: &[u8]) -> Result<Reading> {
    let path = c_path(&place.dir.join("file"));
    let file = make(&path, 4096)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            pwrite(&file, data, 0).at("write to", to_path(&path))?;
        }
        Ok(())
    })
}

fn write_byte(place: &Place<'_>, ops: u32) -> Result<Reading> {
    write_again(place, ops, b"y")
}

fn write_4k(place: &Place<'_>, ops: u32) -> Result<Reading> {
    write_again(place, ops, &[b'y'; 4096])
}

/// Opens, writes and closes a file.
pub(crate) fn rewrite(path: &std::ffi::CString, flags: OFlags, data: &[u8]) -> Result {
    let file = open(path, flags, MODE).at("open", to_path(path))?;
    write(&file, data).at("write to", to_path(path))?;
    Ok(())
}

fn rewrite_in_turn(place: &Place<'_>, ops: u32, files: u32, later: Duration) -> Result<Reading> {
    let paths = paths(place.dir, "file", files);
    make_all(&paths, 1)?;
    pass_time(later);
    place.meter.measure(|| {
        for path in paths.iter().cycle().take(ops as usize) {
            rewrite(path, OFlags::WRONLY, b"y")?;
        }
        Ok(())
    })
}

fn rewrite_same(place: &Place<'_>, ops: u32) -> Result<Reading> {
    rewrite_in_turn(place, ops, 1, Duration::ZERO)
}

fn rewrite_files(place: &Place<'_>, ops: u32) -> Result<Reading> {
    rewrite_in_turn(place, ops, 500, Duration::ZERO)
}

fn rewrite_later(place: &Place<'_>, ops: u32) -> Result<Reading> {
    rewrite_in_turn(place, ops, ops, Duration::from_secs(2))
}

fn rewrite_other(place: &Place<'_>, ops: u32) -> Result<Reading> {
    make_all(&paths(place.dir, "file", ops), 1)?;
    place.other.prepare(place.dir, ops)?;
    place.meter.measure(|| place.other.rewrite())
}

fn append_reopen(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = c_path(&place.dir.join("file"));
    make(&path, 64)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            rewrite(&path, OFlags::WRONLY | OFlags::APPEND, &[b'y'; 64])?;
        }
        Ok(())
    })
}

fn truncate(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = c_path(&place.dir.join("file"));
    let file = make(&path, 4096)?;
    place.meter.measure(|| {
        for turn in 0..ops {
            let size = if turn % 2 == 0 { 0 } else { 4096 };
            ftruncate(&file, size).at("truncate", to_path(&path))?;
        }
        Ok(())
    })
}

fn truncate_write(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let path = one_file(place)?;
    place.meter.measure(|| {
        for _ in 0..ops {
            rewrite(&path, OFlags::WRONLY | OFlags::TRUNC, b"y")?;
        }
        Ok(())
    })
}

fn mmap_write(place: &Place<'_>, ops: u32) -> Result<Reading> {
    const SIZE: usize = 4096;
    let path = one_file(place)?;
    place.meter.measure(|| {
        for turn in 0..ops {
            let file = open(&path, OFlags::RDWR, MODE).at("open", to_path(&path))?;
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: The kernel chooses an address that nothing else uses.
            let memory = unsafe { mmap(ptr::null_mut(), SIZE, access, MapFlags::SHARED, &file, 0) };
            let memory: *mut c_void = memory.at("map", to_path(&path))?;
            // SAFETY: The mapping is writable and has `SIZE` bytes, all of them in the file.
            unsafe { ptr::write_volatile(memory.cast::<u8>(), turn.to_le_bytes()[0]) };
            // SAFETY: Nothing points into the mapping, which is unmapped as a whole.
            unsafe { munmap(memory, SIZE) }.at("unmap", to_path(&path))?;
        }
        Ok(())
    })
}
