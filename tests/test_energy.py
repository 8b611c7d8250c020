# SPDX-License-Identifier: Apache-2.0
"""The energy model: its layers against published totals, its sums against a neuron by hand."""

import math

import pytest

from hwflow import cli, energy

# MACs and weights (without biases and batch norm) as the papers and their reference code give them.
PUBLISHED = {
    "LeNet-5": (416_520, 61_470),
    "MobileNet-V1": (568_740_352, 4_209_088),  # "569 million", "4.2 million"
    "VGG-11": (7_609_090_048, 132_851_392),  # 7.61 G
    "ResNet-18": (1_814_073_344, 11_678_912),  # 1.81 G
}


@pytest.mark.parametrize("name", energy.NETWORKS)
def test_layers_are_those_of_the_papers(name: str) -> None:
    found = energy.count(name)
    assert (found.macs, found.weight_bits // 8) == PUBLISHED[name]


def test_a_neuron_by_hand() -> None:
    # fc3 of LeNet-5 alone: ten neurons of 84 inputs are 83 tables of 6 address bits, 3 bits each.
    whole = energy.count("LeNet-5")
    layers = energy.NETWORKS["LeNet-5"]
    assert layers[-1].fan_in == 84
    assert whole.lookups == sum((o.fan_in - 1) * o.outputs * o.side**2 for o in layers)
    assert whole.table_bits == sum((o.fan_in - 1) * o.outputs * 192 for o in layers)
    assert whole.read_bits == 3 * whole.lookups
    # 3 bits of a word of 64 that costs 10 pJ
    assert math.isclose(whole.lookups_uj, whole.lookups * 0.46875e-6)
    assert math.isclose(whole.arithmetic_uj, 416_520 * 0.3e-6)
    # 491,760 bits of weights need more than 32 KiB, so 100 pJ a word
    assert math.isclose(whole.weights_uj, 491_760 / 64 * 100e-6)
    # six children of one bit: (N - 1) / 5 tables, rounded up
    six = energy.count("LeNet-5", children=6, bits=1)
    assert six.lookups == sum(-(-(o.fan_in - 1) // 5) * o.outputs * o.side**2 for o in layers)


def test_memories_grow_dear() -> None:
    bits = [1, 65_536, 65_537, 262_144, 262_145, 8_388_608, 8_388_609]
    found = [energy.HOROWITZ_45NM.memory_pj_per_bit(n) * 64 for n in bits]
    assert found == [10, 10, 20, 20, 100, 100, 1300]
    assert energy.count("VGG-11", lookup_pj=0.01).ratio > energy.count("VGG-11").ratio


def test_table_of_the_page() -> None:
    lines = energy.markdown().splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("| LeNet-5 | 416,520 | 491,760 |")


def test_the_command_prints_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["hwflow", "bench", "energy"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    assert capsys.readouterr().out == energy.markdown()
    monkeypatch.setattr("sys.argv", ["hwflow", "bench", "energy", "--lookup-pj", "0"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code
    assert "give picojoules above 0" in capsys.readouterr().err
