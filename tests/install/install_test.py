#!/usr/bin/env python3
"""Installs the project under a temporary prefix, then uses it from there: a foreign CMake project with
find_package(fathom), the same sources with pkg-config alone, and the headers as C++.

    install_test.py CMAKE BUILD_FOLDER C_COMPILER
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, BUILD, CC = sys.argv[1:4] if len(sys.argv) >= 4 else ("cmake", "build/release", "cc")
CONSUMER = Path(__file__).resolve().parent / "consumer"


def run(*command, **environment):
    """The output of a command that must succeed."""
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **environment}, check=False,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="fathom-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = cls.folder / "prefix"
        run(CMAKE, "--install", BUILD, "--prefix", cls.prefix)
        found = list(cls.prefix.rglob("fathom.pc"))
        cls.libraries = found[0].parents[1]
        cls.pkgconfig = {"PKG_CONFIG_PATH": str(found[0].parent)}

    def test_programs_libraries_and_headers_are_there(self):
        programs = {path.name for path in (self.prefix / "bin").iterdir()}
        self.assertEqual(programs, {f"fathom-{name}" for name in ("bench", "build", "check", "cli", "data", "server")})
        headers = {path.name for path in (self.prefix / "include" / "fathom").iterdir()}
        self.assertEqual(headers, {"client.h", "error.h", "fathom.h"})
        for program in programs:
            self.assertRegex(run(self.prefix / "bin" / program, "--version"), r"\d+\.\d+\.\d+")

    def test_only_the_api_is_visible_in_the_shared_libraries(self):
        for library in ("libfathom.so", "libfathom_client.so"):
            symbols = run("nm", "-D", "--defined-only", self.libraries / library).split("\n")
            names = {line.split()[-1] for line in symbols if line}
            self.assertTrue(names)
            self.assertEqual({name for name in names if not name.startswith("fathom_")}, set(), library)

    def test_a_cmake_project_finds_the_package(self):
        build = self.folder / "cmake"
        run(CMAKE, "-S", CONSUMER, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_C_COMPILER={CC}")
        run(CMAKE, "--build", build)
        for program in ("search", "search_static", "ask", "ask_static"):
            library = "libfathom" if program.startswith("search") else "libfathom_client"
            self.assertRegex(run(build / program), rf"^{library} \d+\.\d+\.\d+\n$")

    def test_a_newer_version_than_the_installed_one_is_not_found(self):
        build = self.folder / "newer"
        source = self.folder / "newer-source"
        source.mkdir()
        (source / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.20)\nproject(newer LANGUAGES C)\nfind_package(fathom 99 REQUIRED)\n"
        )
        with self.assertRaisesRegex(AssertionError, "99"):
            run(CMAKE, "-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_pkg_config_alone_is_enough(self):
        for module, source in (("fathom", "search"), ("fathom-client", "ask")):
            flags = run("pkg-config", "--cflags", "--libs", module, **self.pkgconfig).split()
            program = self.folder / f"{source}-pkgconfig"
            run(CC, CONSUMER / f"{source}.c", "-Wall", "-Wextra", "-Werror", "-o", program, *flags)
            output = run(program, LD_LIBRARY_PATH=str(self.libraries))
            version = run("pkg-config", "--modversion", module, **self.pkgconfig).strip()
            self.assertIn(version, output)

    def test_the_headers_are_cxx_too(self):
        compiler = shutil.which("c++") or shutil.which("g++")
        if not compiler:
            self.skipTest("there is no C++ compiler")
        run(compiler, "-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
            f"-I{self.prefix}/include", CONSUMER / "headers.cc")

    def test_nothing_installed_names_the_build_folder(self):
        build = str(Path(BUILD).resolve())
        for path in self.prefix.rglob("*"):
            if path.is_file() and path.suffix in (".cmake", ".pc", ".h"):
                self.assertNotIn(build, path.read_text(), path)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
