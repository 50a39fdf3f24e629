#!/usr/bin/env python3
"""The adapters for other benchmarks (bench/adapters) against a real server on a small index. What the
harnesses provide is replaced by the few classes that the adapters take from it."""

import importlib.util
import json
import os
import sys
import tempfile
import threading
import types
import unittest
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path

SOURCE = Path(os.environ["FATHOM_SOURCE"])
ADAPTERS = SOURCE / "bench" / "adapters"
sys.path[:0] = [str(SOURCE / "client" / "python"), str(ADAPTERS)]

try:
    import numpy as np

    import fathom_local
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

ROWS, DIM, QUERIES, K = 20000, 24, 40, 10


def module(name, **names):
    """A module of this name that holds these."""
    made = types.ModuleType(name)
    made.__dict__.update(names)
    return made


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="fathom-adapters-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        random = np.random.default_rng(5)
        centres = random.normal(size=(50, DIM))
        near = [centres[random.integers(50, size=n)] + random.normal(size=(n, DIM)) * 0.3
                for n in (ROWS, QUERIES)]
        cls.base, cls.queries = (each.astype(np.float32) for each in near)
        distances = ((cls.queries[:, None] - cls.base[None]) ** 2).sum(-1)
        cls.truth = np.argsort(distances, axis=1)[:, :K]

    def assert_found(self, found, least=0.9):
        right = sum(len(set(map(int, a)) & set(map(int, b))) for a, b in zip(found, self.truth))
        self.assertGreaterEqual(right / self.truth.size, least)


class Local(Case):
    def test_memory_is_the_servers_and_follows_the_budget(self):
        sizes = {}
        for share in (None, 0.2):
            local = fathom_local.LocalIndex(self.folder / f"local-{share}", share, workers=1)
            self.addCleanup(local.stop)
            self.assertEqual(local.memory_bytes(), 0)
            local.build(self.base, "euclidean")
            self.assertTrue(local.exists())
            self.assertFalse((local.folder / "base.npy").exists())
            local.start(ROWS, DIM)
            self.assert_found(local.search(self.queries, K, search_list=60))
            sizes[share] = local.memory_bytes()
            pid = local.process.pid
            local.stop()
            self.assertFalse(fathom_local.running(pid))
        self.assertGreater(sizes[0.2], 1 << 18)
        self.assertGreater(sizes[None], sizes[0.2])

    def test_what_a_program_says_is_passed_on(self):
        local = fathom_local.LocalIndex(self.folder / "wrong")
        with self.assertRaisesRegex(fathom_local.Failed, "row 3"):
            spoiled = self.base.copy()
            spoiled[3, 1] = np.nan
            local.build(spoiled, "l2")


class AnnBenchmarks(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("ab", "ab.base", "ab.fathom"):
            sys.modules[name] = module(name, __path__=[])
        sys.modules["ab.base.module"] = module("ab.base.module", BaseANN=object)
        cls.adapter = load(ADAPTERS / "ann_benchmarks" / "module.py", "ab.fathom.module")

    def test_fit_query_and_memory(self):
        algorithm = self.adapter.Fathom("euclidean", {"dram_share": 0.3, "workers": 1})
        self.addCleanup(algorithm.done)
        self.assertEqual(algorithm.get_memory_usage(), 0)
        algorithm.fit(self.base.astype(np.float64))  # as the harness' random sets are
        algorithm.set_query_arguments(60)
        self.assert_found([algorithm.query(vector, K) for vector in self.queries])
        algorithm.batch_query(self.queries, K)
        self.assert_found(algorithm.res)
        self.assertGreater(algorithm.get_memory_usage(), 100)
        self.assertGreater(algorithm.get_additional()["dram_bytes"], 100 << 10)
        self.assertIn("L=60", algorithm.name)


class BigAnn(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = cls.folder / "data_without_extension"
        with open(path, "wb") as file:
            file.write(np.array([ROWS, DIM], np.uint32).tobytes() + cls.base.tobytes())
        dataset = types.SimpleNamespace(nb=ROWS, d=DIM, dtype="float32", short_name=lambda: "small",
                                        get_dataset_fn=lambda: str(path))
        for name in ("benchmark", "benchmark.algorithms"):
            sys.modules[name] = module(name, __path__=[])
        http = "benchmark.algorithms.httpann"
        sys.modules[http] = module(http, HttpANN=type("A", (), {}), HttpANNSubprocess=type("B", (), {}))
        sys.modules["benchmark.datasets"] = module("benchmark.datasets",
                                                   DATASETS={"small": lambda: dataset})
        cls.adapter = load(ADAPTERS / "big_ann" / "fathom.py", "benchmark.algorithms.fathom")
        cls.adapter.INDICES = cls.folder / "indices"
        cls.server = ThreadingHTTPServer(("127.0.0.1", 0), cls.adapter.Handler)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.server.server_close)
        cls.addClassCleanup(cls.server.shutdown)

    def post(self, route, expect=200, **body):
        url = f"http://127.0.0.1:{self.server.server_port}/{route}"
        try:
            with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as reply:
                self.assertEqual(expect, 200)
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                self.assertEqual(error.code, expect)
                return json.load(error)

    def test_the_protocol_from_init_to_results(self):
        self.addCleanup(lambda: self.adapter.Handler.engine.local.stop())
        self.post("init", metric="euclidean", dimension=DIM, dram_share=0.3, workers=1)
        self.assertEqual(self.post("load_index", dataset="small"), {"load_index": False})
        self.post("fit", dataset="small")
        self.post("set_query_arguments", query_args=[{"search_list": 60}])
        self.assertEqual(self.post("query", X=self.queries.tolist(), k=K), {})
        self.assert_found(self.post("get_results")["get_results"])
        extra = self.post("get_additional")["get_additional"]
        self.assertGreater(extra["dram_bytes"], 100 << 10)
        self.assertEqual(self.post("done"), {})
        self.assertEqual(self.adapter.Handler.engine.local.memory_bytes(), 0)
        self.assertEqual(self.post("load_index", dataset="small"), {"load_index": True})
        self.post("query", X=self.queries.tolist(), k=K)
        self.assert_found(self.post("get_results")["get_results"])

    def test_what_there_is_not_is_said(self):
        self.assertIn("range_query", self.post("range_query", 501, X=[], radius=1)["error"])
        self.assertIn("error", self.post("load_index", 500, dataset="nowhere"))


class VectorDbBenchInstall(unittest.TestCase):
    """What install.py makes of the two files of the harness that have to know a client."""

    METHOD = ("    def {}(self):\n        if self == DB.Milvus:\n            from .milvus import Milvus\n\n"
              "            return Milvus\n\n")
    CLIENTS = ("from enum import Enum\n\n\nclass DB(Enum):\n    Milvus = \"Milvus\"\n\n"
               + METHOD.format("init_cls") + METHOD.format("config_cls")
               + METHOD.format("case_config_cls"))

    @classmethod
    def setUpClass(cls):
        cls.install = load(ADAPTERS / "vectordbbench" / "install.py", "vectordbbench_install")

    def test_each_method_knows_fathom_once(self):
        text = self.install.know_client(self.CLIENTS)
        self.assertEqual(self.install.know_client(text), text)
        found = {}
        exec(compile(text, "clients", "exec"), found)
        self.assertEqual([each.name for each in found["DB"]], ["Fathom", "Milvus"])
        for method, (file, name) in self.install.KNOWN.items():
            body = text.partition(f"def {method}(")[2].partition("def ")[0]
            self.assertIn(f"from .fathom.{file} import {name}\n", body)
            self.assertTrue((ADAPTERS / "vectordbbench" / f"{file}.py").exists())

    def test_the_command_is_added_once(self):
        text = self.install.know_command(
            "from ..backend.clients.a.cli import A\n\ncli.add_command(A)\n")
        self.assertEqual(text, "from ..backend.clients.fathom.cli import Fathom\n"
                         "from ..backend.clients.a.cli import A\n\n"
                         "cli.add_command(Fathom)\ncli.add_command(A)\n")
        self.assertEqual(self.install.know_command(text), text)

    def test_a_harness_of_another_shape_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "not known here"):
            self.install.know_client("class DB:\n")


class VectorDbBench(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("vectordb_bench", "vectordb_bench.backend", "vectordb_bench.backend.clients"):
            sys.modules[name] = module(name, __path__=[])
        api = "vectordb_bench.backend.clients.api"
        sys.modules[api] = module(api, VectorDB=object)
        cls.adapter = load(ADAPTERS / "vectordbbench" / "fathom.py", "vdb_fathom")

    def test_insert_optimize_and_search_from_another_object(self):
        case = types.SimpleNamespace(index_param=lambda: {"metric": "l2"},
                                     search_param=lambda: {"search_list": 60})
        config = {"folder": str(self.folder / "vdb"), "dram_share": 0.3}
        database = self.adapter.Fathom(DIM, config, case, drop_old=True)
        self.addCleanup(database.close)
        with database.init():
            for begin in range(0, ROWS, 1000):
                rows = slice(begin, begin + 1000)
                ids = range(begin + 7, begin + 1007)
                self.assertEqual(database.insert_embeddings(self.base[rows].tolist(), ids), (1000, None))
            database.optimize(ROWS)
        other = self.adapter.Fathom(DIM, config, case)  # as in another process
        with other.init():
            found = [other.search_embedding(vector.tolist(), k=K) for vector in self.queries]
        self.assert_found(np.array(found) - 7)
        self.assertGreater(other.dram_bytes(), 100 << 10)
        other.close()
        self.assertEqual((database.pid(), database.dram_bytes()), (0, 0))


if __name__ == "__main__":
    unittest.main()
