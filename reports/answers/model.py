"""What the page's script needs to answer again under other settings, as JSON values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tpubench.devices.prices import STALE_AFTER_DAYS
from tpubench.devices.vendors import colour_name
from tpubench.reports.answers import money, words
from tpubench.reports.answers.build import Answers
from tpubench.reports.answers.service import Curve
from tpubench.reports.answers.settings import RANGES, ReportSettings
from tpubench.reports.answers.verdicts import WorkAnswer, answer_with

GRID = (0.6, 1.0, 1.4)
"""Price factors of the table that stands in for the sliders where no script runs."""


def model(answers: Answers) -> dict[str, Any]:
    """The contenders and ways of every piece of work at neutral sliders, and where those stand."""
    neutral = replace(
        answers.settings,
        tpu_price=1.0,
        gpu_price=1.0,
        utilisation=1.0,
        readiness=1.0,
        electricity=1.0,
        token_price=None,
    )
    return {
        "z": money.Z95,
        "stale_days": STALE_AFTER_DAYS,
        "settings": {r.path: answers.settings.record()[r.path] for r in RANGES},
        "token_price": answers.settings.token_price,
        "slo": answers.settings.slo,
        "service": [_curve(curve, answers.settings) for curve in answers.curves],
        "works": [_work(answer_with(one, neutral)) for one in answers.answers],
    }


def _work(one: WorkAnswer) -> dict[str, Any]:
    return {
        "evidence": one.work.evidence,
        "contenders": [
            {
                "tpu": contender.tpu,
                "hours": contender.chip_hours,
                "spread": contender.spread,
                "doubt": contender.high / contender.chip_hours - 1,
                "name": contender.name,
                "device": words.device(contender.name),
                "maker": words.maker(contender.vendor, tpu=contender.tpu),
                "colour": colour_name(contender.device),
            }
            for contender in one.work.contenders
        ],
        "ways": [
            {
                "contender": way.contender,
                "label": way.label,
                "term": way.term,
                "usd": way.usd_per_chip_hour,
                "low": way.usd_low,
                "high": way.usd_high,
                "every_hour": way.every_hour,
                "aside": way.aside,
                "power": way.power_usd,
                "default": way.default,
                "age": way.age_days,
            }
            for way in one.ways
        ],
    }


def _curve(curve: Curve, settings: ReportSettings) -> dict[str, Any]:
    given = dict(settings.given)
    usd = given.get(curve.device, curve.usd_per_chip_hour)
    power = 0.0 if curve.device in given else curve.power_usd
    factor = dict(settings.factor).get(curve.device, 1.0)
    return {
        "tpu": curve.tpu,
        "points": curve.points,
        "usd": None if usd is None else usd * factor,
        "power": power * factor,
        "chip_w": curve.chip_w,
        "capex": curve.capex_usd,
    }


def grid(answers: Answers, work: int) -> list[list[str]]:
    """The verdict of one piece of work at three TPU prices (down) by three GPU prices (across)."""
    one = answers.answers[work]
    rows = []
    for tpu in GRID:
        row = []
        for gpu in GRID:
            turned = replace(answers.settings, tpu_price=tpu, gpu_price=gpu)
            again = answer_with(one, turned)
            row.append(words.head(again, again.verdicts[0]) if again.verdicts else "none")
        rows.append(row)
    return rows
