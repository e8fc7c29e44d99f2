"""at.py FILE [STEP]... prints the JSON value that the steps lead to, in one line with sorted members, so that equal
values are equal texts. A step is a member's name, an index, or `?`: the names of an object's members. A string is
printed bare when it is what the steps lead to. What is not there is `absent`, what is no JSON `no JSON`."""

import json
import sys


def walk(value, steps):
    for step in steps:
        if step == "?":
            value = sorted(value)
        elif isinstance(value, list):
            value = value[int(step)]
        else:
            value = value[step]
    return value


try:
    with open(sys.argv[1], encoding="utf-8") as file:
        found = walk(json.load(file), sys.argv[2:])
    print(found if isinstance(found, str) else json.dumps(found, sort_keys=True, separators=(",", ":")))
except (KeyError, IndexError, TypeError):
    print("absent")
except ValueError:
    print("no JSON")
