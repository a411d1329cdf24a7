#!/usr/bin/env python3
"""Makes TREE equal BASE with the files of OVERLAY on top, touching only the files that differ.

usage: synctree.py BASE OVERLAY TREE MANIFEST [--discard]

Files that are right keep their times, so the next build compiles what changed and nothing else. BASE and TREE share
unchanged files as hard links; a file is always replaced, never written into. MANIFEST remembers what was put where, so
that a file of an earlier series goes away with it. A file that somebody edited by hand is not overwritten: it is named
and nothing is changed at all (--discard overwrites it). A top-level .git and unknown extra files are left alone.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys


def inodes(top):
    """Relative path -> inode of every file and link below top."""
    found, folders = {}, [""]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    if path != ".git":
                        folders.append(path)
                else:
                    found[path] = entry.inode()
    return found


def digest(path):
    """Content and kind of a file; None when it is not there."""
    try:
        if os.path.islink(path):
            return "link " + os.readlink(path)
        with open(path, "rb") as file:
            mode = "x" if os.stat(path).st_mode & 0o100 else "-"
            return mode + hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return None


def committed(tree, path):
    """True when the tree's own git has this very content as HEAD's."""
    if not os.path.isdir(os.path.join(tree, ".git")):
        return False
    git = ["git", "-C", tree]
    head = subprocess.run([*git, "rev-parse", "-q", "--verify", "HEAD:" + path], capture_output=True)
    now = subprocess.run([*git, "hash-object", "--", path], capture_output=True)
    return head.returncode == 0 and head.stdout == now.stdout


def put(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    temporary = target + ".provfs-new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    # A new time: what is built from the old file must be built again, even when the new one is older.
    shutil.copy(source, temporary, follow_symlinks=False)
    os.replace(temporary, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("base", "overlay", "tree", "manifest"):
        parser.add_argument(name)
    parser.add_argument("--discard", action="store_true", help="overwrite files that were edited by hand")
    args = parser.parse_args()

    base, overlay, tree = inodes(args.base), inodes(args.overlay), inodes(args.tree)
    try:
        with open(args.manifest) as file:
            written = json.load(file)
    except FileNotFoundError:
        written = {}

    # Every file whose hard link is not the base's own, and every file of this or an earlier series.
    suspects = {path for path, inode in base.items() if tree.get(path) != inode} | set(overlay) | set(written)
    copy, remove, edited = [], [], []
    for path in sorted(suspects):
        source = os.path.join(args.overlay if path in overlay else args.base, path)
        target = os.path.join(args.tree, path)
        want, have = digest(source), digest(target)
        if want == have:
            continue
        known = have is None or have in written.get(path, []) or have == digest(os.path.join(args.base, path))
        if not known and not args.discard and not committed(args.tree, path):
            edited.append(path)
        elif want is None:
            remove.append(path)
        else:
            copy.append((source, target))
    if edited:
        print("edited by hand, in no series and no commit:", file=sys.stderr)
        for path in edited:
            print("    " + path, file=sys.stderr)
        return 3

    new = {path: [digest(os.path.join(args.overlay, path))] for path in overlay}
    # Before the first change: after an interrupt, a file may be as the old series or as the new one has it.
    save(args.manifest, {path: written.get(path, []) + new.get(path, []) for path in {*written, *new}})
    for source, target in copy:
        put(source, target)
    for path in remove:
        os.unlink(os.path.join(args.tree, path))
        folder = os.path.dirname(os.path.join(args.tree, path))
        while not os.listdir(folder):
            os.rmdir(folder)
            folder = os.path.dirname(folder)
    save(args.manifest, new)
    print(f"{len(copy)} files written, {len(remove)} removed, {len(overlay)} in the series")
    return 0


def save(path, data):
    with open(path + ".new", "w") as file:
        json.dump(data, file, indent=1, sort_keys=True)
    os.replace(path + ".new", path)


if __name__ == "__main__":
    sys.exit(main())
