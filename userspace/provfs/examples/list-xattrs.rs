//! Lists the extended attributes of each file whose name is a line of the standard input, with
//! `--values` reads them too, and does nothing else: what `scripts/bench-show` measures a search
//! against.

use std::{
    env,
    ffi::CStr,
    io::{self, BufRead},
};

use rustix::fs::{lgetxattr, llistxattr};

fn main() -> io::Result<()> {
    let values = env::args().nth(1).is_some_and(|arg| arg == "--values");
    let mut listed = 0u64;
    let (mut names, mut value) = ([0; 1024], [0; 1024]);
    for path in io::stdin().lock().lines() {
        let path = path?;
        let len = llistxattr(path.as_str(), &mut names)?;
        listed += 1;
        let mut rest = names.get(..len).filter(|_| values).unwrap_or_default();
        while let Ok(name) = CStr::from_bytes_until_nul(rest) {
            lgetxattr(path.as_str(), name, &mut value)?;
            rest = rest.get(name.count_bytes() + 1..).unwrap_or_default();
        }
    }
    println!("{listed}");
    Ok(())
}
