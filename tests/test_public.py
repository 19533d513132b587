"""What `import vivant` gives, what it costs, and what can be caught."""

import re
import subprocess
import sys
import types

import pytest

import vivant
from vivant import errors


def test_the_namespace_is_exactly_what_is_announced():
    assert dir(vivant) == sorted([*vivant.__all__, "__version__"])
    names: dict = {}
    exec("from vivant import *", names)
    del names["__builtins__"]
    assert set(names) == set(vivant.__all__)
    assert not any(isinstance(value, types.ModuleType) for value in names.values())


@pytest.mark.parametrize("name", vivant.__all__)
def test_every_name_comes_from_this_package_with_a_docstring(name):
    value = getattr(vivant, name)
    assert value.__name__ == name and value.__module__.startswith("vivant.") and value.__doc__


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="'paint_it_black'"):
        _ = vivant.paint_it_black
    with pytest.raises(ImportError):
        exec("from vivant import paint_it_black")


def test_importing_loads_nothing_heavy():
    code = "import sys, vivant; vivant.VivantError; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "vivant.errors" in loaded
    assert not loaded & {"torch", "numpy", "cv2", "av", "PIL", "diffusers", "transformers", "vivant.pipeline"}


def test_the_tree_is_the_one_that_is_drawn():
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([│ ]*(?:[├└]── )?)([A-Z]\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn[found[2]] = path[depth - 1] if depth else None
    real = {n: v for n, v in vars(errors).items() if isinstance(v, type)}
    assert set(drawn) == set(real)
    for name, parent in drawn.items():
        assert real[name].__bases__ == ((real[parent],) if parent else (Exception,))


def test_exit_codes():
    codes = {n: v.exit_code for n, v in vars(errors).items() if isinstance(v, type)}
    assert {n for n, code in codes.items() if code == 2} == {
        "InputError", "ImageError", "PromptError", "SettingError", "OutputError",
    }  # fmt: skip
    assert set(codes.values()) == {1, 2}
