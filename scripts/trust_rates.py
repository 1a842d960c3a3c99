"""Measure whether what is printed is true as often as it is said to be.

    python scripts/trust_rates.py            # everything, some hours on two cores
    python scripts/trust_rates.py --quick B  # some of the bounds, a minute

B bounds, C completeness. Seeds are fixed, so that a table is the same on every machine but for
roundings. With --store FILE.json what was computed is kept, and gone on with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trust import part_b, part_c

PARTS = ("B", "C")


def main() -> int:
    """The number of violations, as an exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=PARTS, help="of " + ", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a small cut, in a minute or two")
    parser.add_argument("--store", type=Path, help="JSON file to keep results in")
    options = parser.parse_args()
    violations = 0
    if "B" in options.parts:
        violations += part_b.run(1 if options.quick else 30, options.store)
    if "C" in options.parts:
        violations += part_c.run(20, 8 if options.quick else 500, options.store)
        violations += part_c.run(2, 8 if options.quick else 250, options.store)
        low, high = part_c.calibrate(200 if options.quick else 2000, options.store)
        # Three to ten per cent of the statements are to be false there.
        violations += int(high < 0.03) + int(low > 0.10)
    print(f"\n{violations} violations")
    return min(1, violations)


if __name__ == "__main__":
    raise SystemExit(main())
