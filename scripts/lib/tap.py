#!/usr/bin/env python3
"""Reads what tests print and says, one line each, what passed.

usage: tap.py tap|ktap|cargo PREFIX FILE

tap:   TAP of one program
ktap:  KUnit's results in a kernel's console log
cargo: what cargo test or cargo nextest prints

Prints `ok PREFIX: name`, `not ok PREFIX: name` or `skip PREFIX: name` for each test. What means that tests were lost is
a failed test too: no test at all, fewer or more than planned, a run that stopped in the middle. Status 1 when any failed.
"""

import re
import sys

RESULT = re.compile(r"(?P<indent> *)(?P<not>not )?ok (?P<number>\d+)?(?: ?- )?\s*(?P<name>.*?)\s*(?:#\s*(?P<note>.*))?$")
PLAN = re.compile(r"(?P<indent> *)1\.\.(?P<count>\d+)\s*(?:#.*)?$")
# One blank belongs to printk, the others are KTAP's indentation.
PRINTK = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")


class Results:
    def __init__(self):
        self.lines = []

    def add(self, passed, name, note=""):
        skipped = passed and (note or "").upper().startswith("SKIP")
        self.lines.append(("skip" if skipped else "ok" if passed else "not ok", name))

    def fail(self, why):
        self.lines.append(("not ok", why))

    def counted(self):
        return len(self.lines)


def tap(text):
    results, plan, seen = Results(), None, 0
    for line in text.splitlines():
        if line.startswith("Bail out!"):
            results.fail(line)
        elif (match := PLAN.match(line)) and not match["indent"]:
            plan = int(match["count"])
        elif (match := RESULT.match(line)) and not match["indent"] and re.match(r"(not )?ok\b", line):
            seen += 1
            results.add(not match["not"], match["name"] or f"test {seen}", match["note"])
    check_plan(results, "", plan, seen)
    return results


def check_plan(results, what, plan, seen):
    what = what and what + ": "
    if plan is None:
        results.fail(what + "no plan: the run stopped before its end")
    elif plan != seen:
        results.fail(f"{what}{plan} tests planned, {seen} reported")
    elif not seen:
        results.fail(what + "no tests were run")


def ktap(text):
    """Suites are at the left, their tests one step in; what is deeper are parameters of a test.

    A suite's plan and its tests come before the suite's own line.
    """
    results, plan, suites = Results(), None, 0
    tests, test_plan = [], None
    for raw in text.splitlines():
        line = PRINTK.sub("", raw.rstrip("\r"))
        if match := PLAN.match(line):
            if not match["indent"]:
                plan = int(match["count"])
            elif len(match["indent"]) == 4:
                test_plan = int(match["count"])
            continue
        if not re.match(r" *(not )?ok \d+", line):
            continue
        match = RESULT.match(line)
        if len(match["indent"]) == 4:
            tests.append(match)
        elif not match["indent"]:
            suites += 1
            suite, failed = match["name"], any(test["not"] for test in tests)
            for test in tests:
                results.add(not test["not"], f"{suite}.{test['name']}", test["note"])
            skipped = (match["note"] or "").upper().startswith("SKIP")
            if not skipped:
                check_plan(results, suite, test_plan, len(tests))
            if match["not"] and not failed:
                results.fail(f"{suite}: the suite failed outside its tests")
            tests, test_plan = [], None
    if tests or test_plan:
        results.fail("the kernel stopped in the middle of a suite")
    check_plan(results, "suites", plan, suites)
    return results


def cargo(text):
    results, seen, done = Results(), {}, 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    program = ""
    for line in text.splitlines():
        if match := re.match(r"\s*(?:Running|Doc-tests) (?:unittests )?(\S+)", line):
            program = match[1] + " "
        elif match := re.match(r"test (.+?) \.\.\. (ok|FAILED|ignored)", line):
            seen[program + match[1]] = match[2]
        elif match := re.match(r"\s+(PASS|FAIL|SIGABRT|SIGSEGV|TIMEOUT|LEAK) \[.*?\] (?:\([\s\d/]+\) )?(.+)", line):
            seen[match[2]] = "ok" if match[1] in ("PASS", "LEAK") else "FAILED"
        elif re.match(r"test result: |\s+Summary \[", line):
            done += 1
    for name, outcome in seen.items():
        results.add(outcome != "FAILED", name, "SKIP" if outcome == "ignored" else "")
    if not done:
        results.fail("no tests were run to their end")
    return results


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("tap", "ktap", "cargo"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    with open(sys.argv[3], encoding="utf-8", errors="replace") as file:
        results = globals()[sys.argv[1]](file.read())
    for outcome, name in results.lines:
        print(f"{outcome} {sys.argv[2]}: {name}")
    return 1 if any(outcome == "not ok" for outcome, _ in results.lines) else 0


if __name__ == "__main__":
    sys.exit(main())
