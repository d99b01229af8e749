"""Runs the benchmarks and writes ``RESULTS.md``: ``python -m benchmarks [SECTION ...] [--quick] [--model NAME]``."""

from __future__ import annotations

import argparse
import importlib
import os
import time
from pathlib import Path

from benchmarks import SECTIONS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"some of: {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--model", help="name or folder of the captioner (default: the shipped one)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds over which a median is taken (default: 5)")
    parser.add_argument("--cores", type=int, help="use so many cores (default: all; the aims are for 2)")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache/captioner-benchmarks", help="for photos")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="where RESULTS.md is written")
    parser.add_argument(
        "--data", type=Path, nargs="+", default=(), help="folders of caption data sets, for agreement (one) and unsure"
    )
    parser.add_argument("--clips", type=Path, help="folder of a clip data set, for the section novelty")
    parser.add_argument("--quick", action="store_true", help="a few photos only: shows that it works, measures nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {min(unknown)!r}; known: {', '.join(SECTIONS)}")
    if arguments.cores:  # before anything starts threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    from benchmarks.measuring import Setup, machine
    from benchmarks.writing import Results

    repeats = 1 if arguments.quick else arguments.repeats
    data = tuple(arguments.data)
    setup = Setup(arguments.model, arguments.folder, repeats, data, arguments.clips, arguments.quick)
    results = Results(arguments.output)
    for section in arguments.sections or SECTIONS:
        print(f"{section} ...", flush=True)
        start, before = time.perf_counter(), machine()
        tables = importlib.import_module(f"benchmarks.{section}").measure(setup)
        results.add(section, tables, before, time.perf_counter() - start)
        print(results.text(section), flush=True)
    print(f"written: {arguments.output / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
