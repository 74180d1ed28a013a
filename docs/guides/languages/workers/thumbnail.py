#!/usr/bin/env python3
"""A task in Python, run by the stock worker's `exec`: arguments on stdin, the value on stdout."""

import json
import os
import sys


def main() -> int:
    try:
        args = json.load(sys.stdin)
        width, height, edge = args["width"], args["height"], args.get("edge", 200)
    except (ValueError, KeyError) as error:
        # What is wrong with the arguments today is wrong tomorrow: no further attempt.
        print(f"arguments can't be used: {error!r}", file=sys.stderr)
        return os.EX_DATAERR
    # Lines on stderr are the job's log.
    print(f"attempt {os.environ['REPULL_ATTEMPT']} of job {os.environ['REPULL_JOB_ID']}", file=sys.stderr)
    scale = edge / max(width, height)
    json.dump({"width": round(width * scale), "height": round(height * scale)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
