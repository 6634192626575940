"""The modified z-score by its definition, for test/property/anomaly_score.pl.

Reads lines "amount|history, separated by blanks" from standard input and writes the score of each, or nothing. Fractions
throughout: the only rounding is the last one, to four decimals, half away from zero.
"""
import sys
from decimal import Decimal
from fractions import Fraction


def median(values):
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def score(amount, history):
    middle = median(history)
    mad = median([abs(value - middle) for value in history])
    usual = max(mad / Fraction("0.6745"), abs(middle) / 100, Fraction("0.01"))
    return (amount - middle) / usual


def rounded(value):
    units = (2 * abs(value) * 10000 + 1) // 2
    if units == 0:
        return "0.0000"
    return ("-" if value < 0 else "") + f"{units // 10000}.{units % 10000:04d}"


for line in sys.stdin:
    amount, history = line.rstrip("\n").split("|")
    known = [Fraction(Decimal(text)) for text in history.split()]
    print(rounded(score(Fraction(Decimal(amount)), known)) if len(known) >= 3 else "")
