#!/usr/bin/env python3
"""Reads Envoy's access log (JSON lines, as "tokenbudget envoy bootstrap" sets it up) on
standard input, and prints for each user what became of their requests, and which limit
decided how often. Clients that left before the end have no outcome there, only the flag DC, and
no output; who left before the request was forwarded is counted for the user "?". Lines that are no JSON, and requests that were not metered, are skipped.

    python3 cuts.py < access.log
"""

import collections
import json
import sys

OUTCOMES = "completed", "cut", "denied", "aborted", "upstream_error"


def main():
    counts = collections.defaultdict(collections.Counter)  # by user
    limits = collections.Counter()  # by user, outcome and limit
    for line in sys.stdin:
        try:
            entry = json.loads(line)
            left = "outcome" not in entry and "DC" in entry["flags"].split(",")
            outcome = "aborted" if left else entry["outcome"]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        user = entry.get("user", "?" if left else "(none)")
        counts[user][outcome] += 1
        counts[user]["tokens"] += entry.get("input_tokens", 0) + entry.get("output_tokens", 0)
        if outcome in ("cut", "denied"):
            limits[user, outcome, entry.get("limit", "")] += 1
    row = "%-12s" + "%16s" * (len(OUTCOMES) + 1)
    print(row % ("USER", *(o.upper() for o in OUTCOMES), "TOKENS"))
    for user, c in sorted(counts.items()):
        print(row % (user, *(c[o] for o in OUTCOMES), c["tokens"]))
    print()
    for (user, outcome, limit), n in sorted(limits.items()):
        print("%s: %s %d times by %s" % (user, outcome, n, limit))


if __name__ == "__main__":
    main()
