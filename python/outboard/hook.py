# SPDX-License-Identifier: Apache-2.0
"""Lets `outboard run` reach the interpreters of one environment even when they ignore PYTHONPATH (python -I, python -E):

    python .../python/outboard/hook.py install      adds outboard.pth to the environment that `python` belongs to
    python .../python/outboard/hook.py remove

The line in it does nothing unless the interpreter runs below `outboard run`, and follows whichever Outboard that is.
"""
import os
import sys
import sysconfig

# Interpreters execute the lines of a .pth file that begin with `import`, before anything of the program.
LINE = ("import os, runpy; p = os.path.join(os.path.dirname(os.environ.get('OUTBOARD_LIBRARY') or '/'), 'python', "
        "'outboard', 'site', 'arm.py'); os.environ.get('OUTBOARD_LIBRARY') and os.path.exists(p) and runpy.run_path(p)\n")


def main(arguments):
    path = os.path.join(sysconfig.get_paths()["purelib"], "outboard.pth")
    if arguments == ["install"]:
        with open(path, "w") as file:
            file.write(LINE)
        print(f"wrote {path}")
    elif arguments == ["remove"]:
        if os.path.exists(path):
            os.remove(path)
        print(f"removed {path}")
    else:
        sys.exit(f"hook.py: argument ({' '.join(arguments) or 'none'}) was given, expected install or remove")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"hook.py: file ({error.filename}) cannot be changed: {error.strerror}")
