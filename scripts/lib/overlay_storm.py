#!/usr/bin/env python3
"""Programs that scripts/test-overlay kills in the middle of their work, and what checks the rest.

usage: overlay_storm.py sqlite DIR ROUNDS     kill -9 of a writer to SQLite databases, with both kinds of journal
       overlay_storm.py write DIR LIST       write files and fsync them for ever; names and sums go to LIST, which is synced
       overlay_storm.py check DIR LIST       every file in LIST is in DIR, whole
       overlay_storm.py repository DIR N     a git repository with N files
       overlay_storm.py project DIR N        a C project with N files and a Makefile
       overlay_storm.py tree DIR N           N files of many kinds: links, holes, modes, times, odd names
"""

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

ROWS_AT_A_TIME = 20


def sqlite_writer(path, mode):
    """Inserts for ever, and says each number when it is committed."""
    database = sqlite3.connect(path, timeout=30)
    database.execute(f"PRAGMA journal_mode = {mode}")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, v BLOB)")
    number = (database.execute("SELECT max(n) FROM t").fetchone()[0] or 0) + 1
    while True:
        with database:
            for n in range(number, number + ROWS_AT_A_TIME):
                database.execute("INSERT INTO t VALUES (?, ?)", (n, os.urandom(500)))
            database.execute("DELETE FROM t WHERE n < ?", (number - 2000,))
        number += ROWS_AT_A_TIME
        print(number - 1, flush=True)


def sqlite_storm(folder, rounds):
    for mode in ("WAL", "DELETE"):
        path = os.path.join(folder, f"{mode}.sqlite")
        for _ in range(int(rounds)):
            writer = subprocess.Popen([sys.executable, __file__, "sqlite-writer", path, mode], stdout=subprocess.PIPE)
            time.sleep(random.uniform(0.2, 0.6))
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split()
            writer.wait()
            database = sqlite3.connect(path, timeout=30)
            (state,) = database.execute("PRAGMA integrity_check").fetchone()
            (last,) = database.execute("SELECT max(n) FROM t").fetchone() if said else (0,)
            database.close()
            committed = int(said[-1]) if said else 0
            if state != "ok" or (last or 0) < committed:
                sys.exit(f"{path}: {state}, {committed} was committed and {last} is there")
    print(f"{rounds} kills each with WAL and with a rollback journal: nothing lost")


def write_storm(folder, list_path):
    written = open(list_path, "ab", buffering=0)
    number = 0
    while True:
        number += 1
        name = f"{os.getpid()}-{number}"
        data = os.urandom(random.choice([10, 5000, 200000]))
        descriptor = os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)
        written.write(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())


def check_storm(folder, list_path):
    lines = open(list_path).read().splitlines()
    bad = 0
    for line in lines:
        name, _, wanted = line.partition(" ")
        try:
            data = open(os.path.join(folder, name), "rb").read()
        except OSError as error:
            data = str(error).encode()
        bad += hashlib.sha256(data).hexdigest() != wanted
    print(f"{len(lines)} files were written and synced, {bad} of them are not whole")
    sys.exit(bad > 0 or not lines)


def repository(folder, count):
    os.makedirs(folder)
    git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    rng = random.Random(1)
    for n in range(int(count)):
        path = os.path.join(folder, f"{n % 40}", f"{n % 7}")
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, f"file-{n}.txt"), "w") as file:
            file.write("".join(f"line {rng.random()}\n" for _ in range(rng.randrange(1, 200))))
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)


def project(folder, count):
    os.makedirs(folder)
    count = int(count)
    names = [f"part{n}" for n in range(count)]
    for n, name in enumerate(names):
        with open(os.path.join(folder, f"{name}.c"), "w") as file:
            file.write('#include "all.h"\n')
            file.write("".join(f"int {name}_{i}(int x) {{ return x * {i} + {n}; }}\n" for i in range(100)))
            file.write(f"int {name}(int x) {{ return {name}_0(x) + {name}_99(x); }}\n")
    with open(os.path.join(folder, "all.h"), "w") as file:
        file.write("#include <stdio.h>\n#include <stdlib.h>\n")
        file.write("".join(f"int {name}(int x);\n" for name in names))
    with open(os.path.join(folder, "main.c"), "w") as file:
        calls = " + ".join(f"{name}(1)" for name in names)
        file.write(f'#include "all.h"\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n')
    with open(os.path.join(folder, "Makefile"), "w") as file:
        objects = " ".join(f"{name}.o" for name in [*names, "main"])
        file.write(f"all: program\nprogram: {objects}\n\t$(CC) -o $@ $^\n%.o: %.c all.h\n\t$(CC) -O1 -c -o $@ $<\n")
    print(sum(99 + 2 * n for n in range(count)))


def tree(folder, count):
    os.makedirs(folder)
    rng = random.Random(2)
    for n in range(int(count)):
        path = os.path.join(folder, f"d{n % 20}")
        os.makedirs(path, exist_ok=True)
        name = os.path.join(path, rng.choice(["plain", "with space", "n\nl", "\u00fc", "-dash"]) + str(n))
        kind = rng.randrange(10)
        if kind == 0:
            os.symlink(f"../target {n}", name)
            continue
        with open(name, "wb") as file:
            if kind == 1:
                file.seek(1 << 20)
            file.write(rng.randbytes(rng.randrange(20000)))
        if kind == 2:
            os.link(name, name + ".link")
        os.chmod(name, rng.choice([0o644, 0o755, 0o600, 0o444, 0o4755]))
        os.utime(name, ns=(rng.randrange(1 << 60), rng.randrange(1 << 60)))


def main():
    commands = {
        "sqlite": sqlite_storm,
        "sqlite-writer": sqlite_writer,
        "write": write_storm,
        "check": check_storm,
        "repository": repository,
        "project": project,
        "tree": tree,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


main()
