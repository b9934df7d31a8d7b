"""What each figure of anomaly maps says: perfect ones, constant ones, chance, and what it must not see."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from projects.fabric_ad.harness.pictures import heat, rows
from projects.fabric_ad.measures import auroc, contrast, pro

RNG = np.random.default_rng(0)
MASKS = np.zeros((6, 32, 32), bool)
MASKS[0, 4:6, 4:6] = MASKS[1, 10:25, 10:25] = True  # a small and a large one
DEFECTIVE = MASKS.any((1, 2))
NOISE = RNG.random(MASKS.shape)


@pytest.mark.parametrize(
    ("maps", "expected", "overlap", "stands"),
    [
        (MASKS.astype(float), 1.0, 1.0, math.inf),
        (1.0 + MASKS, 1.0, 1.0, 2.0),
        (np.ones(MASKS.shape), 0.5, 0.0, 1.0),  # nothing lies above the highest value
        (1.0 - MASKS, 0.0, 0.0, 0.0),
    ],
    ids=["perfect", "perfect with an offset", "constant", "reversed"],
)
def test_maps_of_known_worth(maps, expected, overlap, stands):
    assert auroc(maps, MASKS) == expected and pro(maps, MASKS) == pytest.approx(overlap, abs=0.01)
    with np.errstate(divide="ignore"):
        assert contrast(maps, MASKS, DEFECTIVE) == stands


def test_chance():
    masks = np.random.default_rng(1).random((20, 32, 32)) < 0.05
    noise = np.random.default_rng(2).random(masks.shape)
    assert auroc(noise, masks) == pytest.approx(0.5, abs=0.03) and pro(noise, masks) == pytest.approx(0.15, abs=0.03)
    assert contrast(noise, masks, np.arange(20) < 10) == pytest.approx(1, abs=0.05)


def test_scale_and_offset_do_not_count_and_small_faults_do():
    maps = NOISE + 0.5 * MASKS
    for measure in (auroc, pro):
        assert measure(maps, MASKS) == pytest.approx(measure(3 * maps + 7, MASKS))
    assert contrast(5 * maps, MASKS, DEFECTIVE) == pytest.approx(contrast(maps, MASKS, DEFECTIVE))
    large = MASKS.copy()
    large[0] = False
    only_large = NOISE + 2.0 * large
    assert auroc(only_large, MASKS) > 0.98 and pro(only_large, MASKS) < 0.7
    assert auroc(maps, MASKS) == pytest.approx(roc_auc_score(MASKS.ravel(), maps.ravel()))


def test_pro_is_the_area_by_definition():
    maps, rates = NOISE + 0.3 * MASKS, np.linspace(0, 0.3, 201)
    normal = np.sort(maps[~MASKS])[::-1]
    found = [normal[int(rate * (len(normal) - 1))] for rate in rates]
    curve = [np.mean([(maps[k][MASKS[k]] > t).mean() for k in (0, 1)]) for t in found]
    assert pro(maps, MASKS) == pytest.approx(np.trapezoid(curve, rates) / 0.3, abs=0.01)


def test_what_cannot_be_measured_is_not_a_number():
    assert math.isnan(auroc(NOISE, np.zeros_like(MASKS))) and math.isnan(auroc(NOISE, np.ones_like(MASKS)))
    spoilt = NOISE.copy()
    spoilt[0, 0, 0] = np.nan
    assert math.isnan(auroc(spoilt, MASKS)) and math.isnan(pro(spoilt, MASKS))
    assert math.isnan(pro(NOISE, np.zeros_like(MASKS)))


def test_pictures_show_maps_over_one_range():
    normal = NOISE[2:]
    shown = heat(np.stack([np.zeros((32, 32)), np.full((32, 32), 9.0)]), normal)
    assert (shown[0] == shown[0, 0, 0]).all() and shown[1].mean() > shown[0].mean()
    images = np.zeros((2, 3, 32, 32), np.uint8)
    assert rows(images, NOISE[:2], MASKS[:2], normal).shape == (3 * 34, 2 * 34, 3)
