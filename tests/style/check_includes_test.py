# SPDX-License-Identifier: Apache-2.0
"""The include check must find each kind of offence: a test of the test."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, sys.argv.pop(1))
import check_includes  # noqa: E402

LICENCE = "// SPDX-License-Identifier: Apache-2.0\n"


class CheckIncludes(unittest.TestCase):
    def findings(self, path, text):
        with tempfile.TemporaryDirectory() as root:
            file = pathlib.Path(root, "src", path)
            file.parent.mkdir(parents=True)
            file.write_text(text)
            return check_includes.check(pathlib.Path(root))

    def test_allowed_arrow(self):
        self.assertEqual([], self.findings("wire/frame.cc", LICENCE + '#include "base/result.h"\n#include <vector>\n'))

    def test_intercept_and_serve_never_meet(self):
        found = self.findings("intercept/common/x.cc", LICENCE + '#include "serve/server.h"\n')
        self.assertIn("intercept must not include serve", found[0])

    def test_vendor_header_outside_its_folder(self):
        self.assertIn("may be included only", self.findings("wire/x.cc", LICENCE + "#include <onnxruntime_c_api.h>\n")[0])
        self.assertIn("may be included only", self.findings("profile/x.cc", LICENCE + "#include <nlohmann/json.hpp>\n")[0])

    def test_relative_name(self):
        self.assertIn("is not named from src/", self.findings("wire/x.cc", LICENCE + '#include "frame.h"\n')[0])

    def test_licence(self):
        self.assertIn("licence", self.findings("base/x.h", "#pragma once\n")[0])


if __name__ == "__main__":
    unittest.main()
