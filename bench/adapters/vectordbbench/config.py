"""Settings of the fathom client: goes to vectordb_bench/backend/clients/fathom/config.py."""

from typing import ClassVar

from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType


class FathomConfig(DBConfig):
    """folder: where the rows are gathered and the index is built. The server runs on this machine,
    with this share of the raw f32 size as its DRAM budget (0: none)."""

    folder: str
    dram_share: float = 0

    _extra_empty_skip: ClassVar[frozenset[str]] = frozenset()

    def to_dict(self) -> dict:
        return {"folder": self.folder, "dram_share": self.dram_share}


class FathomIndexConfig(BaseModel, DBCaseConfig):
    metric_type: MetricType | None = None
    search_list: int = 0  # 0: the index's operating point for target_recall
    target_recall: float = 0.95

    def index_param(self) -> dict:
        names = {MetricType.L2: "l2", MetricType.COSINE: "cosine", MetricType.IP: "ip"}
        return {"metric": names.get(self.metric_type, "l2")}

    def search_param(self) -> dict:
        if self.search_list:
            return {"search_list": self.search_list}
        return {"target_recall": self.target_recall}
