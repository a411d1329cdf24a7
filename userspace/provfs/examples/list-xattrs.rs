//! Lists the extended attributes of each file whose name is a line of the standard input, and does
//! nothing else: what `scripts/bench-show` measures a search against.

use std::io::{self, BufRead};

use rustix::fs::llistxattr;

fn main() -> io::Result<()> {
    let mut listed = 0u64;
    let mut names = [0; 1024];
    for path in io::stdin().lock().lines() {
        llistxattr(path?.as_str(), &mut names)?;
        listed += 1;
    }
    println!("{listed}");
    Ok(())
}
