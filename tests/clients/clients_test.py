# SPDX-License-Identifier: Apache-2.0
"""Clients of ONNX Runtime in every language, unmodified and from their own registries (scripts/install-clients.sh), run
plainly and under `outboard run`; real programs on a real picture; and processes that are hard on a guest.

    clients_test.py [unittest arguments]
"""
import os
import pathlib
import shutil
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent))
from harness import BUILD, DEPS, ORT, PYTHON, ROOT, Compared, Server, check_output, run, work  # noqa: E402

CLIENTS, NODE_MODULES, PICTURES = DEPS / "clients", DEPS / "node/node_modules", DEPS / "pictures"
C_CLIENT = str(BUILD / "tests/client_c")
# Every type that the clients print, two outputs, weights in another file, shapes that are known after the Run.
MODELS = ("metadata", "external", "type_float", "type_int64", "type_string", "dynamic_output", "unused_input")
CLIENT_PY = str(SOURCE / "python/client.py")
LANGUAGES = {  # name: (what must be there, the command, its environment)
    "c": (C_CLIENT, [C_CLIENT], {}),
    "python": (PYTHON, [PYTHON, CLIENT_PY], {}),
    **{f"python_{r.replace('.', '_')}": (CLIENTS / f"python-{r}.stamp", [str(CLIENTS / f"python-{r}/bin/python"), CLIENT_PY], {})
       for r in ("1.23",)},
    "node": (NODE_MODULES / "onnxruntime-node", ["node", str(SOURCE / "node/client.js")], {"NODE_PATH": str(NODE_MODULES)}),
    "java": (CLIENTS / "java.stamp", ["java", "-cp", f"{CLIENTS}/java:{CLIENTS}/java/*", "Client"], {}),
    "rust": (CLIENTS / "rust.stamp", [str(CLIENTS / "rust/client")], {"ORT_DYLIB_PATH": ORT}),
}


def needs(path):
    if not pathlib.Path(path).exists():
        raise unittest.SkipTest(f"WITHOUT THIS CLIENT: ({path}) is missing; run scripts/install-deps.sh")


class WithServer(Compared):
    @classmethod
    def setUpClass(cls):
        check_output([PYTHON, str(ROOT / "tests/intercept/make_cases.py"), str(work / "models")])
        cls.models = [str(work / "models" / f"{name}.onnx") for name in MODELS]
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def all_went(self, through, sessions, runs=None):
        """Every one of `sessions` went to the server, with all its `runs`."""
        self.assertEqual(len(through.sessions), sessions, through.result.stderr)
        self.all_remote(through)
        self.assertEqual(through.runs("failed"), 0)
        if runs is not None:
            self.assertEqual([s["runs"]["server"] for s in through.sessions], [runs] * sessions)


class Languages(WithServer):
    """The same small program in each language: names, types and shapes, one Run printed to the last bit, 16 more from
    several threads. All print the same, whatever their release of the runtime."""

    def check(self, language):
        there, command, environment = LANGUAGES[language]
        needs(there)
        through = self.same([*command, *self.models], "--mode", "remote", environment=environment)
        self.all_went(through, len(self.models), runs=17)
        self.assertEqual(through.result.stdout, run([C_CLIENT, *self.models]).stdout)


for name in LANGUAGES:
    setattr(Languages, f"test_{name}", lambda self, name=name: self.check(name))


class Programs(WithServer):
    """Programs that somebody else wrote, on a photograph of a page."""

    def reads_the_page(self, command, sessions):
        needs(PICTURES / "page.png")
        through = self.same([*command, str(PICTURES / "page.png")], "--mode", "remote")
        self.assertGreater(len(through.result.stdout.splitlines()), 4, through.result.stdout)
        self.all_went(through, sessions)

    def test_rapidocr_python(self):
        self.reads_the_page([PYTHON, str(ROOT / "examples/ocr.py")], 3)

    def test_gutenye_ocr_node(self):
        needs(NODE_MODULES / "@gutenye/ocr-node")
        self.reads_the_page(["node", str(SOURCE / "node/ocr.mjs"), str(NODE_MODULES)], 2)


if __name__ == "__main__":
    unittest.main()
