"""The user's own prices: validated with file, key and reason, kept apart from list prices."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpubench.costs.owned import Owned, hourly
from tpubench.costs.price_files import all_prices, read_prices
from tpubench.devices.prices import prices
from tpubench.errors import UsageError

NEGOTIATED = """
[[negotiated]]
id = "gcp-v7-2027"
provider = "gcp"
region = "us-central1"
accelerator = "tpu-v7"
term = "3y"
usd_per_chip_hour = 5.10
source = "order form"
as_of = 2026-10-01
"""
OWNED = """
[[owned]]
id = "own-gb200"
accelerator = "nvidia-gb200"
source = "quote 17"
as_of = 2026-10-01
capex_usd = 47222
wacc = 0.087
years = 5.5
kw = 1.667
pue = 1.08
usd_per_kwh = 0.0821
colo_usd_per_kw_month = 184.06
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_negotiated_and_owned_prices_are_their_own_layers(tmp_path: Path) -> None:
    path = write(tmp_path, NEGOTIATED + OWNED)
    negotiated, owned = read_prices(path)
    assert (negotiated.layer, negotiated.usd_per_chip_hour) == ("negotiated", 5.10)
    assert owned.layer == "owned"
    assert owned.usd_per_chip_hour == pytest.approx(1.84, abs=0.005)
    assert set(all_prices([path])) - set(prices()) == {"gcp-v7-2027", "own-gb200"}


def test_an_owned_hour_of_work_pays_for_idle_hours_and_outages(tmp_path: Path) -> None:
    (owned,) = read_prices(write(tmp_path, OWNED + "utilisation = 0.5\navailability = 0.9\n"))
    chip = Owned(
        capex_usd=47222,
        wacc=0.087,
        years=5.5,
        kw=1.667,
        pue=1.08,
        usd_per_kwh=0.0821,
        colo_usd_per_kw_month=184.06,
        availability=0.9,
    )
    assert owned.usd_per_chip_hour == pytest.approx(hourly(chip, 0.5).total / 0.45)


def test_the_environment_names_more_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPUBENCH_PRICES", str(write(tmp_path, NEGOTIATED)))
    assert "gcp-v7-2027" in all_prices()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NEGOTIATED.replace("as_of = 2026-10-01", ""), r"negotiated\[0\]\.as_of: Field required"),
        (NEGOTIATED.replace("2026-10-01", '"soon"'), r"negotiated\[0\]\.as_of: .*date"),
        (NEGOTIATED.replace("5.10", "nan"), r"usd_per_chip_hour: .*finite|usd_per_chip_hour"),
        (NEGOTIATED.replace("5.10", "-1"), r"usd_per_chip_hour: .*greater than 0"),
        (NEGOTIATED.replace("5.10", "true"), r"usd_per_chip_hour: .*valid number"),
        (NEGOTIATED.replace("tpu-v7", "tpu-v99"), r"accelerator: unknown accelerator 'tpu-v99'"),
        (NEGOTIATED.replace('"3y"', '"forever"'), r"term: "),
        (NEGOTIATED + 'colour = "red"\n', r"negotiated\[0\]\.colour: there is no such key"),
        (OWNED.replace("pue = 1.08", "pue = 0.5"), r"owned\[0\]: pue must be 1 or more"),
        (OWNED + "facility_capex_usd = 5\n", r"both pay for the building"),
        (NEGOTIATED + NEGOTIATED, r"'gcp-v7-2027' is given twice"),
        ("a = [", r"not valid TOML"),
        ("a = " + "[" * 5000, r"not valid TOML"),
    ],
)
def test_a_bad_file_is_named_with_key_and_reason(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=message) as caught:
        read_prices(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_id_that_means_two_prices_is_refused(tmp_path: Path) -> None:
    taken = next(iter(prices()))
    path = write(tmp_path, NEGOTIATED.replace("gcp-v7-2027", taken))
    with pytest.raises(UsageError, match="taken by another price"):
        all_prices([path])


HEADER = (
    "id,provider,region,accelerator,term,usd_per_chip_hour,includes_host,source,as_of,layer,note"
)
GOOD = ["p", "gcp", "r", "tpu-v6e", "spot", "1.5", "yes", "s", "2026-10-01", "list", ""]
BAD = st.one_of(st.text(max_size=6), st.sampled_from(["nan", "-1", "maybe", "2026-13-01", "1e999"]))


@given(st.dictionaries(st.integers(0, len(GOOD) - 1), BAD, max_size=3))
def test_any_table_is_prices_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[int, str]
) -> None:
    cells = [changes.get(i, cell) for i, cell in enumerate(GOOD)]
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    path.write_text(f"{HEADER}\n{','.join(cells)}\n", encoding="utf-8", errors="replace")
    try:
        for price in read_prices(path):
            assert price.usd_per_chip_hour > 0
    except UsageError as error:
        assert str(error).startswith(str(path))


def test_a_run_may_name_a_price_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpubench.costs.price_files import find_price

    monkeypatch.setenv("TPUBENCH_PRICES", str(write(tmp_path, NEGOTIATED)))
    assert find_price("gcp-v7-2027").layer == "negotiated"
    with pytest.raises(UsageError, match="unknown price"):
        find_price("gcp-v7-2028")
