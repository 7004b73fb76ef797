"""Builds the shared library that ctypes loads, and names the wheel for the platform alone."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# `levels.c` is compiled once for each; which one runs is decided when the library is loaded.
X86_LEVELS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
ONCE = ("api.c", "exact.c", "masks.c")


class BuildLibrary(build_ext):
    """Compiles each file with its own flags and links them under a name without a tag of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
        return str(Path(*fullname.split("."))) + suffix

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []  # the header says which are exported; there is no PyInit

    def build_extension(self, ext: Extension) -> None:
        compiler, source = self.compiler, Path("csrc")
        msvc = compiler.compiler_type == "msvc"
        # Rounding is part of the results of `exact.c` and `masks.c`, so nothing there may be contracted.
        common = (
            ["/O2", "/fp:precise"]
            if msvc
            else ["-O3", "-std=c11", "-fPIC", "-fvisibility=hidden", "-Wall", "-g0"]
        )
        strict = [] if msvc else ["-ffp-contract=off"]
        loose = [] if msvc else ["-ffp-contract=fast"]
        extra = os.environ.get("RESNEST_ZOO_KERNELS_CFLAGS", "").split()
        levels: dict[str, list[str]] = {"portable": []}
        if not msvc and _target() == "x86":
            levels |= X86_LEVELS

        def compile_file(
            name: str, flags: list[str], macros: list[tuple[str, str | None]], folder: str
        ) -> list[str]:
            objects: list[str] = compiler.compile(
                [str(source / name)],
                output_dir=str(Path(self.build_temp, folder)),
                macros=macros,
                extra_postargs=[*common, *flags, *extra],
                depends=ext.depends,
            )
            return objects

        have: list[tuple[str, str | None]] = [("HAVE_X86_LEVELS", None)] if len(levels) > 1 else []
        objects = [item for name in ONCE for item in compile_file(name, strict, have, "once")]
        for level, flags in levels.items():
            objects += compile_file("levels.c", [*loose, *flags], [("LEVEL", level)], level)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        libraries = [] if msvc else ["m"]
        compiler.link_shared_object(objects, str(target), libraries=libraries, extra_postargs=extra)


def _target() -> str:
    """The processors that the library is for; on a Mac it may be built for others than this one."""
    flags = [*os.environ.get("ARCHFLAGS", "").split(), platform.machine().lower()]
    named = [flag for flag in flags if flag in ("x86_64", "amd64", "arm64", "aarch64")]
    return "x86" if named and named[0] in ("x86_64", "amd64") and "arm64" not in flags else "other"


class PlatformWheel(bdist_wheel):
    """`py3-none-PLATFORM`: nothing in the library belongs to one Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "resnest_zoo_kernels._kernels",
            sources=[],
            depends=[str(path) for path in sorted(Path("csrc").glob("*"))],
        )
    ],
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel},
)
