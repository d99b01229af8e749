"""``python -m tests.fuzz --minutes 30``, from the root of a checkout: damaged files of every kind.

Case ``N`` of a target is always the same: ``--keep images 1234`` writes it into a folder, to make a test of it.
``--coverage images`` hands the choice of the bytes to atheris (``pip install "captioner[fuzz]"``), until Ctrl-C.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.campaign import campaign


def main() -> int:
    """Runs what the command line says; the status is 1 where something bad was found."""
    from fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="where the numbers of the cases begin")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--keep", nargs=2, metavar=("TARGET", "NUMBER"), help="write a case into ./TARGET-NUMBER")
    parser.add_argument("--coverage", choices=[name for name, one in TARGETS.items() if one.from_bytes])
    options = parser.parse_args()
    if options.keep:
        target, number = options.keep[0], int(options.keep[1])
        folder = Path(f"{target}-{number}")
        folder.mkdir()
        TARGETS[target].make(random.Random(f"{target} {number}"), folder)
        return 0
    if options.coverage:
        return _guided(options.coverage)
    report = campaign(_until(time.monotonic() + 60 * options.minutes, options.targets, options.seed))
    print(f"seed {options.seed}\n{report}")
    return bool(report.bad)


def _until(deadline: float, names: list[str], seed: int):
    from fuzz.targets import TARGETS

    rng = random.Random(seed)
    number = seed
    while time.monotonic() < deadline:
        yield rng.choices(names, [TARGETS[name].share for name in names])[0], number
        number += 1


def _guided(name: str) -> int:
    """Bytes that atheris chooses by the lines of this package that they reach."""
    import tempfile

    import atheris

    with atheris.instrument_imports(include=["captioner"]):
        from fuzz import targets

    def once(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            targets.TARGETS[name].from_bytes(data, Path(folder))
            targets.read(name, Path(folder))

    atheris.Setup([sys.argv[0]], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
