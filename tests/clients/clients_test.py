# SPDX-License-Identifier: Apache-2.0
"""Clients of ONNX Runtime in every language, unmodified and from their own registries (scripts/install-clients.sh), run
plainly and under `outboard run`; real programs on a real picture; and processes that are hard on a guest.

    clients_test.py [unittest arguments]
"""
import pathlib
import shutil
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SOURCE.parent))
from harness import BUILD, DEPS, ORT, PYTHON, ROOT, Compared, Outboard, Server, check_output, run, work  # noqa: E402

CLIENTS, NODE_MODULES, PICTURES = DEPS / "clients", DEPS / "node/node_modules", DEPS / "pictures"
C_CLIENT = str(BUILD / "tests/client_c")
# Every type that the clients print, two outputs, weights in another file, shapes that are known after the Run.
MODELS = ("metadata", "external", "type_float", "type_int64", "type_string", "dynamic_output", "unused_input")
CLIENT_PY = str(SOURCE / "python/client.py")
LANGUAGES = {  # name: (what must be there, the command, its environment)
    "c": (C_CLIENT, [C_CLIENT], {}),
    "python": (PYTHON, [PYTHON, CLIENT_PY], {}),
    **{f"python_{r.replace('.', '_')}": (CLIENTS / f"python-{r}.stamp", [str(CLIENTS / f"python-{r}/bin/python"), CLIENT_PY], {})
       for r in ("1.16", "1.19", "1.23")},
    "node": (NODE_MODULES / "onnxruntime-node", ["node", str(SOURCE / "node/client.js")], {"NODE_PATH": str(NODE_MODULES)}),
    "java": (CLIENTS / "java.stamp", ["java", "-cp", f"{CLIENTS}/java:{CLIENTS}/java/*", "Client"], {}),
    "rust": (CLIENTS / "rust.stamp", [str(CLIENTS / "rust/client")], {"ORT_DYLIB_PATH": ORT}),
    "go": (CLIENTS / "go.stamp", [str(CLIENTS / "go/client")], {"ONNXRUNTIME_LIBRARY": ORT}),
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
        """Every one of `sessions` went to the server, with all its `runs`. One without Runs only looked at the model."""
        through.sessions = [s for s in through.sessions if s["runs"]["server"] + s["runs"]["local"] + s["runs"]["failed"]]
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


class Processes(WithServer):
    """Loaders and processes that are hard on a guest."""
    PROGRAM = str(BUILD / "tests/client_processes")

    def model(self):
        return str(work / "models/metadata.onnx")

    def test_a_library_of_another_name_from_any_path_with_rtld_local(self):
        folder = work / "any where"
        folder.mkdir(exist_ok=True)
        shutil.copy(ORT, folder / "engine.bin")
        through = self.same([self.PROGRAM, "outlive", str(folder / "engine.bin"), self.model()], "--mode", "remote")
        self.all_went(through, 1, runs=21)

    def test_two_copies_of_the_runtime(self):
        other = sorted(CLIENTS.glob("python-1.23/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
        needs(other[0] if other else CLIENTS / "python-1.23")
        through = self.same([self.PROGRAM, "two", ORT, str(other[0]), self.model()], "--mode", "remote")
        self.assertIn("1.23", through.result.stdout)
        self.all_went(through, 2, runs=3)

    def test_a_library_and_the_wheel_in_one_python(self):
        program = (f"import ctypes, runpy, sys; ctypes.CDLL({ORT!r}).OrtGetApiBase(); "
                   f"sys.argv = ['client', {self.model()!r}]; runpy.run_path({CLIENT_PY!r})")
        self.all_went(self.same([PYTHON, "-c", program], "--mode", "remote"), 1, runs=17)

    def test_a_second_preloaded_library(self):
        environment = {"LD_PRELOAD": str(BUILD / "tests/libsecond_preload.so")}
        through = self.same([self.PROGRAM, "outlive", ORT, self.model()], "--mode", "remote", environment=environment)
        self.all_went(through, 1, runs=21)

    def test_threads_that_outlive_main(self):
        self.all_went(self.same([self.PROGRAM, "outlive", ORT, self.model()], "--mode", "remote"), 1, runs=21)

    def test_a_server_that_is_lost_with_every_wheel(self):
        """An old wheel cannot open the model by the C API: Python does it."""
        program = SOURCE / "python/lose_server.py"
        for python in (PYTHON, *(str(CLIENTS / f"python-{r}/bin/python") for r in ("1.16", "1.19", "1.23"))):
            needs(python)
            with Server() as server:
                through = Outboard(server, [python, str(program), self.model(), str(server.process.pid)], "--mode", "remote")
            self.assertEqual((through.result.stdout, through.result.returncode), ("same 8\n", 0), through.result.stderr)
            self.assertEqual((through.runs("server"), through.runs("failed")), (4, 0))
            self.assertEqual(through.runs("local"), 8)

    def isolated_python(self):
        """An environment of its own that sees the wheel."""
        folder = work / "isolated"
        if not folder.exists():
            check_output(["/usr/bin/python3", "-m", "venv", "--without-pip", str(folder)])
            packages = next((folder / "lib").glob("python3*/site-packages"))
            (packages / "wheel.pth").write_text(f"{next((DEPS / 'venv/lib').glob('python3*/site-packages'))}\n")
        return str(folder / "bin/python")

    def test_isolated_python(self):
        python = self.isolated_python()
        hook = str(BUILD / "python/outboard/hook.py")
        command = [python, "-I", CLIENT_PY, self.model()]
        self.assertEqual(self.same(command, "--mode", "remote").processes, [])  # the hook is what does it
        check_output([python, "-I", hook, "install"])
        self.all_went(self.same(command, "--mode", "remote"), 1, runs=17)
        self.all_went(self.same([python, "-E", CLIENT_PY, self.model()], "--mode", "remote"), 1, runs=17)
        self.all_went(self.same([python, CLIENT_PY, self.model()], "--mode", "remote"), 1, runs=17)
        check_output([python, "-I", hook, "remove"])
        self.assertEqual(self.same(command, "--mode", "remote").processes, [])
        wrong = run([python, hook])
        self.assertEqual((wrong.returncode, wrong.stdout), (1, ""))
        self.assertIn("expected install or remove", wrong.stderr)


if __name__ == "__main__":
    unittest.main()
