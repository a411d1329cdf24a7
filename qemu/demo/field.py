#!/usr/bin/env python3
"""Prints one field (session, tool, turn, intent) of the only record in `provfs-show --json` on stdin, "" without one."""

import json
import sys


def records(document):
    """The list of records, wherever in the document it is."""
    if isinstance(document, dict):
        document = next((value for value in document.values() if isinstance(value, list)), [document])
    return document


def main():
    try:
        found = records(json.load(sys.stdin))
    except json.JSONDecodeError:
        return 1
    record = found[0] if found else {}
    value = record.get(sys.argv[1])
    if isinstance(value, dict):
        value = value.get("id")
    print("" if value is None else value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
