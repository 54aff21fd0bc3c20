# SPDX-License-Identifier: Apache-2.0
"""Five real rounds of each fault: no Run fails, no result is wrong, nobody waits for longer than a second and a local Run,
Runs are on the server again within 5 s of its return, and nothing is left on either side. Prints the table.

    faults_test.py BUILD_FOLDER [unittest arguments]
"""
import os
import pathlib
import sys
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
import bed as beds
import faults

BUILD = pathlib.Path(sys.argv[1]).absolute()
ROUNDS = 5


class FaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.played = faults.Faults(BUILD, ROUNDS)
        cls.played.play()
        print(faults.table(cls.played.records), flush=True)
        if os.environ.get("OUTBOARD_WRITE_FAULTS") == "1":
            faults.write_page(faults.PAGE, cls.played.records, "OUTBOARD_WRITE_FAULTS=1 ctest --preset release -R net_faults")

    def test_every_lane_came_to_its_end(self):
        self.assertEqual(self.played.errors, {})

    def test_the_page_has_a_row_for_each_fault(self):
        page = faults.PAGE.read_text()
        self.assertEqual([f.title for f in faults.FAULTS.values() if f"| {f.title} |" not in page], [])


def of(name):
    def test(self):
        records = self.played.records[name]
        self.assertEqual(len(records), self.played.rounds_of(name))
        self.assertEqual(faults.complaints(records), [])
    return test


for each in faults.FAULTS:
    setattr(FaultsTest, f"test_{each.replace('-', '_')}", of(each))

if __name__ == "__main__":
    if beds.skip_loudly("real faults"):
        sys.exit(0)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
