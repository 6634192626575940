"""The eight aggregations by their definitions, for test/property/usage_measures.pl.

Reads a JSON object from standard input: "streams", each with a time zone and events, and "queries" about them. Writes a
line per query: its number, quantity, events. It knows no cells, no days of its own and no roll-ups: time_weighted is
the area under one step function over absolute time, all others are worked out from the events that stand. Numbers are
fractions; the time zones are those of Python.
"""
import json
import math
import sys
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)


def midnight(day, zone):
    """The first moment of a local day, in microseconds."""
    first = datetime(day.year, day.month, day.day, tzinfo=zone, fold=0)
    return (first.astimezone(timezone.utc) - EPOCH) // MICROSECOND


def standing(stream):
    """The events that were not taken back, each with its local day."""
    zone = ZoneInfo(stream["zone"])
    taken_back = {e["corrects"] for e in stream["events"] if e["corrects"] is not None}
    result = []
    for event in stream["events"]:
        if event["corrects"] is None and event["id"] not in taken_back:
            day = (EPOCH + event["at"] * MICROSECOND).astimezone(zone).date()
            result.append({**event, "day": day, "value": Fraction(event["value"])})
    return result


def area(events, start, end):
    """Level times seconds between two moments."""
    total = Fraction(0)
    ordered = sorted(events, key=lambda e: (e["at"], e["id"]))
    for event, following in zip(ordered, ordered[1:] + [None]):
        until = end if following is None else min(end, following["at"])
        since = max(start, event["at"])
        if until > since:
            total += event["value"] * Fraction(until - since, 1000000)
    return total


def nearest_rank(samples, percentile):
    ordered = sorted(samples)
    return ordered[math.ceil(percentile * len(ordered) / 100) - 1]


def rounded(value, scale, mode):
    """To a number of decimals: half away from zero, away from zero, or toward zero."""
    scaled = abs(value) * Fraction(10) ** scale
    if mode == "down":
        whole = math.floor(scaled)
    elif mode == "up":
        whole = math.ceil(scaled)
    else:
        whole = math.floor(scaled + Fraction(1, 2))
    return (whole if value >= 0 else -whole) / Fraction(10) ** scale


def plain(value):
    """A fraction that has an end, in decimal notation without trailing zeros."""
    digits = 0
    while (value * 10 ** digits).denominator != 1:
        digits += 1
        assert digits < 200, value
    text = str(abs((value * 10 ** digits).numerator)).rjust(digits + 1, "0")
    if digits:
        text = text[:-digits] + "." + text[-digits:]
    return ("-" if value < 0 else "") + text


def measure(stream, query):
    zone = ZoneInfo(stream["zone"])
    start, end = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    events = stream["standing"]
    inside = [e for e in events if start <= e["day"] < end]
    values = [e["value"] for e in inside]
    aggregation = query["aggregation"]
    scale, mode = query["scale"], query["rounding"] or "nearest"

    if aggregation == "sum":
        quantity = sum(values, Fraction(0))
    elif aggregation == "count":
        quantity = Fraction(len(inside))
    elif aggregation == "unique_count":
        quantity = Fraction(len({e["name"] for e in inside}))
    elif aggregation == "time_weighted":
        quantity = area(events, midnight(start, zone), midnight(end, zone)) / (query["unit"] or 1)
        if scale is None and (query["unit"] or 1) > 1:
            scale, mode = 12, "nearest"
    elif not inside:
        quantity = Fraction(0)
    elif aggregation == "max":
        quantity = max(values)
    elif aggregation == "min":
        quantity = min(values)
    elif aggregation == "percentile":
        quantity = nearest_rank(values, Fraction(query["percentile"] or 95))
    elif aggregation == "latest":
        quantity = max(inside, key=lambda e: (e["at"], e["id"]))["value"]
    else:
        raise ValueError(aggregation)
    if scale is not None:
        quantity = rounded(quantity, scale, mode)
    return plain(quantity), len(inside)


def main():
    asked = json.load(sys.stdin)
    for stream in asked["streams"]:
        stream["standing"] = standing(stream)
    for number, query in enumerate(asked["queries"]):
        quantity, events = measure(asked["streams"][query["stream"]], query)
        print(number, quantity, events, sep="|")


main()
