//! Messages between two processes: a byte there and a byte back.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
};

use super::{Place, Row, processes::Forked};
use crate::{
    error::{Context, Result},
    meter::{InTurn, Reading},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "pipe",
        about: "a byte to another process and back through pipes",
        ops: 1_500,
        measure: pipe,
    },
    Row {
        name: "unix_socket",
        about: "the same through a stream of AF_UNIX",
        ops: 1_500,
        measure: unix_socket,
    },
    Row {
        name: "tcp",
        about: "the same through a TCP connection on the loopback",
        ops: 600,
        measure: tcp,
    },
];

/// Sends a byte and waits for it to come back.
fn round_trips(
    place: &Place<'_>,
    ops: u32,
    mut to: impl Write,
    mut from: impl Read,
) -> Result<Reading> {
    place.meter.measure(|| {
        let mut byte = [b'x'];
        for _ in 0..ops {
            to.write_all(&byte)
                .and_then(|()| from.read_exact(&mut byte))
                .doing("send a byte there and back")?;
        }
        Ok(())
    })
}

/// Sends back what comes, until nothing does.
fn echo(mut from: impl Read, mut to: impl Write) {
    let mut byte = [0];
    while let Ok(1) = from.read(&mut byte) {
        if to.write_all(&byte).is_err() {
            return;
        }
    }
}

fn a_pipe() -> Result<(File, File)> {
    let (read, write) = rustix::pipe::pipe().doing("make a pipe")?;
    Ok((read.into(), write.into()))
}

fn pipe(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let (there_read, there_write) = a_pipe()?;
    let (back_read, back_write) = a_pipe()?;
    let _turn = InTurn::begin()?;
    let _child = Forked::run(|| echo(&there_read, &back_write))?;
    round_trips(place, ops, &there_write, &back_read)
}

fn unix_socket(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let (ours, theirs) = UnixStream::pair().doing("make a pair of sockets")?;
    let _turn = InTurn::begin()?;
    let _child = Forked::run(|| echo(&theirs, &theirs))?;
    round_trips(place, ops, &ours, &ours)
}

fn tcp(place: &Place<'_>, ops: u32) -> Result<Reading> {
    let listener = TcpListener::bind("127.0.0.1:0").doing("listen on the loopback")?;
    let address = listener.local_addr().doing("find the port")?;
    let ours = TcpStream::connect(address).doing("connect over the loopback")?;
    let (theirs, _) = listener.accept().doing("accept a connection")?;
    ours.set_nodelay(true)
        .and_then(|()| theirs.set_nodelay(true))
        .doing("send bytes at once")?;
    let _turn = InTurn::begin()?;
    let _child = Forked::run(|| echo(&theirs, &theirs))?;
    round_trips(place, ops, &ours, &ours)
}
