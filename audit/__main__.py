"""python -m audit: a seeded campaign, its table, and the reproducers of what it found wrong."""

import argparse
import multiprocessing
import sys
import time
from functools import partial

from .campaign import FAST, SLOW, Result, audit


def main():
    given = arguments()
    methods = [given.method] if given.method else None
    start = time.monotonic()
    if given.only is not None:
        methods = methods or (*FAST, *SLOW)
        result = audit(given.seed, given.only, given.pairs, methods=methods)
        print(*result.violations, sep="\n")
    else:
        share = -(-given.pairs // given.networks)
        run = partial(audit, given.seed, pairs=share, every=given.every, methods=methods)
        result = campaign(run, given, start)
    print_table(result, time.monotonic() - start)
    sys.exit(1 if result.violations else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="python -m audit", description=__doc__)
    parser.add_argument("--networks", type=positive, default=1000)
    parser.add_argument("--first", type=int, default=0, help="index of the first, to go on from")
    parser.add_argument("--pairs", type=int, default=10_000, help="attacked pairs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--every", type=int, default=8, help="slow methods on every n-th network")
    parser.add_argument(
        "--method", choices=(*FAST, *SLOW), help="this method alone, on every network"
    )
    parser.add_argument("--only", type=int, help="all methods on the network of this index")
    return parser.parse_args()


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


def campaign(run, given, start):
    """The sum over the networks reached within the limit, or until Ctrl-C."""
    total, indices = Result(), range(given.first, given.first + given.networks)
    context = multiprocessing.get_context("spawn")
    with context.Pool(given.workers) as pool:
        try:
            for result in told(pool.imap_unordered(run, indices, chunksize=10), len(indices)):
                total.add(result)
                if time.monotonic() - start > given.seconds:
                    print(f"stopped by the limit of {given.seconds:g} s")
                    break
        except KeyboardInterrupt:
            print("stopped by the keyboard")
        pool.terminate()
    return total


def told(results, count):
    """The results, each violation printed at once and, once a minute, how far the campaign is."""
    start = last = time.monotonic()
    for done, result in enumerate(results, start=1):
        for violation in result.violations:
            print(violation, flush=True)
        if time.monotonic() - last > 60:
            last = time.monotonic()
            print(f"{done} of {count}, {(last - start) / 60:.0f} min", file=sys.stderr, flush=True)
        yield result


def print_table(result, seconds):
    """Per method and norm; closest: least bound / oracle - 1."""
    print(f"{result.networks} networks, {result.pairs} attacked pairs, {seconds:.0f} s")
    print(f"{'method':18}{'norm':>5}{'checked':>9}{'refused':>9}{'wrong':>7}{'closest':>11}")
    for (method, norm), tally in sorted(result.tallies.items()):
        print(f"{method:18}{norm:5g}{tally.networks:9}{tally.refused:9}"
              f"{len(tally.violations):7}{tally.least:11.2e}")  # fmt: skip
    print(f"{len(result.violations)} violations")


if __name__ == "__main__":
    main()
