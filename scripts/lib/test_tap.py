"""Tests of tap.py: what passes, and above all that nothing that was lost passes."""

import unittest

import tap


def outcomes(parse, text):
    return [outcome for outcome, _ in parse(text).lines]


class Tap(unittest.TestCase):
    def test_passed_failed_skipped(self):
        text = "TAP version 13\n1..3\nok 1 - a\nnot ok 2 - b\n# why\nok 3 - c # SKIP no xfs\n"
        self.assertEqual(tap.tap(text).lines, [("ok", "a"), ("not ok", "b"), ("skip", "c")])

    def test_plan_at_the_end(self):
        self.assertEqual(outcomes(tap.tap, "ok 1 - a\n1..1\n"), ["ok"])

    def test_lost_tests(self):
        self.assertEqual(outcomes(tap.tap, "1..2\nok 1 - a\n"), ["ok", "not ok"])
        self.assertEqual(outcomes(tap.tap, "ok 1 - a\n"), ["ok", "not ok"])
        self.assertEqual(outcomes(tap.tap, "1..0\n"), ["not ok"])
        self.assertEqual(outcomes(tap.tap, ""), ["not ok"])
        self.assertEqual(outcomes(tap.tap, "1..1\nok 1 - a\nBail out! no disk\n"), ["ok", "not ok"])

    def test_prose_is_no_result(self):
        self.assertEqual(outcomes(tap.tap, "1..1\nokay then\nnot okay\nok 1 - a\n"), ["ok"])


def console(text):
    return "\n".join(f"[    0.12345{n % 10}] {line}" for n, line in enumerate(text.splitlines()))


KTAP = """\
KTAP version 1
1..2
    KTAP version 1
    # Subtest: provfs_text
    # module: provfs
    1..2
    ok 1 escapes
        KTAP version 1
        # Subtest: cuts
        ok 1 short
        ok 2 long
    ok 2 cuts
# provfs_text: pass:2 fail:0 skip:0 total:2
ok 1 provfs_text
    KTAP version 1
    # Subtest: provfs_skip
    1..1
    ok 1 nothing # SKIP later
ok 2 provfs_skip"""


class Ktap(unittest.TestCase):
    def test_suites_and_parameters(self):
        expected = [("ok", "provfs_text.escapes"), ("ok", "provfs_text.cuts"), ("skip", "provfs_skip.nothing")]
        self.assertEqual(tap.ktap(console(KTAP)).lines, expected)

    def test_other_messages_between(self):
        text = console(KTAP.replace("    ok 2 cuts", "virtio_blk: ok\n    ok 2 cuts"))
        self.assertEqual(outcomes(tap.ktap, text), ["ok", "ok", "skip"])

    def test_failures(self):
        text = console(KTAP.replace("    ok 2 cuts", "    not ok 2 cuts").replace("ok 1 provfs_text", "not ok 1 provfs_text"))
        self.assertEqual(outcomes(tap.ktap, text), ["ok", "not ok", "skip"])
        text = console(KTAP.replace("ok 1 provfs_text", "not ok 1 provfs_text"))
        self.assertEqual(outcomes(tap.ktap, text), ["ok", "ok", "not ok", "skip"])

    def test_lost_tests(self):
        lines = KTAP.splitlines()
        for end in range(len(lines)):
            with self.subTest(end=end):
                self.assertIn("not ok", outcomes(tap.ktap, console("\n".join(lines[:end]))))
        self.assertIn("not ok", outcomes(tap.ktap, console(KTAP.replace("    ok 1 escapes\n", ""))))


class Cargo(unittest.TestCase):
    def test_cargo_test(self):
        text = "     Running unittests src/lib.rs (x)\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored\ntest result: FAILED. 1\n"
        self.assertEqual(outcomes(tap.cargo, text), ["ok", "not ok", "skip"])

    def test_nextest(self):
        text = "        PASS [   0.005s] (1/2) provfs text::a\n        FAIL [   0.005s] (2/2) provfs b\n     Summary [ 1s]\n        FAIL [   0.005s] (2/2) provfs b\n"
        self.assertEqual(tap.cargo(text).lines, [("ok", "provfs text::a"), ("not ok", "provfs b")])

    def test_does_not_compile(self):
        self.assertEqual(outcomes(tap.cargo, "error[E0425]: cannot find\n"), ["not ok"])


if __name__ == "__main__":
    unittest.main()
