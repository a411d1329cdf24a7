#!/usr/bin/env python3
"""Prints a deb822 source like the one this machine gets Debian itself from, but for other suites.

usage: aptsources.py CODENAME SUITE... [--etc DIR]

The machine's own mirror and keys are used; its files are only read. Both forms of apt sources are understood:
one-line entries (*.list) and deb822 stanzas (*.sources).
"""

import argparse
import re
import sys
from pathlib import Path


def deb822_entries(text):
    """Yields the fields of each stanza, with lower-case names; continuation lines (inline keys) are kept."""
    for stanza in re.split(r"\n\s*\n", text):
        fields, name = {}, None
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            yield fields


def one_line_entries(text):
    """Yields the same fields for `deb [options] URI SUITE COMPONENT...`."""
    for line in text.splitlines():
        match = re.match(r"\s*(deb)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if not match:
            continue
        kind, options, uri, suite, components = match.groups()
        fields = {"types": kind, "uris": uri, "suites": suite, "components": components.strip()}
        for option in (options or "").split():
            name, _, value = option.partition("=")
            fields[name.lower()] = value
        yield fields


def machine_entries(etc):
    parts = sorted((etc / "sources.list.d").glob("*"))
    for path in [etc / "sources.list", *parts]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".sources":
            yield from deb822_entries(text)
        elif path.suffix == ".list":
            yield from one_line_entries(text)


def serves_debian(entry, codename):
    """The plain suite (not -security, -updates or somebody else's) with its main component."""
    return (
        "deb" in entry.get("types", "").split()
        and codename in entry.get("suites", "").split()
        and "main" in entry.get("components", "").split()
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codename", help="this machine's release, as in /etc/os-release")
    parser.add_argument("suites", nargs="+")
    parser.add_argument("--etc", type=Path, default=Path("/etc/apt"))
    args = parser.parse_args()

    names = [args.codename, "stable", "testing", "unstable", "sid"]
    entries = list(machine_entries(args.etc))
    for name in names:
        for entry in entries:
            if serves_debian(entry, name):
                print("Types: deb")
                print("URIs: " + entry["uris"])
                print("Suites: " + " ".join(args.suites))
                print("Components: main")
                print("Targets: Packages")
                for field in ("Signed-By", "Trusted"):
                    if field.lower() in entry:
                        print(f"{field}: {entry[field.lower()]}")
                return 0
    print(f"no entry in {args.etc} serves the suite {args.codename} main", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
