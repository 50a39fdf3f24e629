"""`vectordbbench fathom`: goes to vectordb_bench/backend/clients/fathom/cli.py."""

from typing import Annotated, Unpack

import click
from vectordb_bench.backend.clients import DB
from vectordb_bench.cli.cli import (
    CommonTypedDict,
    cli,
    click_parameter_decorators_from_typed_dict,
    run,
)

from .config import FathomConfig, FathomIndexConfig


class FathomTypedDict(CommonTypedDict):
    folder: Annotated[str, click.option("--folder", required=True, help="for rows and index")]
    dram_share: Annotated[float, click.option("--dram-share", default=0.0, show_default=True,
                                              help="of the raw f32 size, 0: no budget")]
    search_list: Annotated[int, click.option("--search-list", default=0, show_default=True,
                                             help="0: the operating point of the target")]
    target_recall: Annotated[float, click.option("--target-recall", default=0.95,
                                                 show_default=True)]


@cli.command(name="fathom")
@click_parameter_decorators_from_typed_dict(FathomTypedDict)
def Fathom(**parameters: Unpack[FathomTypedDict]):
    """The metric is the data set's: the harness puts it in."""
    run(
        db=DB.Fathom,
        db_config=FathomConfig(db_label=parameters["db_label"], folder=parameters["folder"],
                               dram_share=parameters["dram_share"]),
        db_case_config=FathomIndexConfig(search_list=parameters["search_list"],
                                         target_recall=parameters["target_recall"]),
        **parameters,
    )
