# SPDX-License-Identifier: Apache-2.0
"""Numbers that others published: Vivado, other chips, other counts. Cited, never compared.

What is counted differs from row to row, which is why they have a table of their own: several
leave out the encoder, some are after synthesis and some after routing, accuracies are often rounded
to whole percents.
"""

from dataclasses import dataclass

VU9P = "xcvu9p-2, Vivado, out of context"
STUDY = "github.com/Kanishk234/dwn-fpga-study"


@dataclass(frozen=True)
class Published:
    """One row as printed; "-" where the source does not say."""

    method: str
    data: str
    accuracy: str
    lut: str
    ff: str
    fmax_mhz: str
    latency_ns: str
    tool: str
    encoder: str
    source: str


PUBLISHED = (
    Published("DWN, n = 6, lg (Bacellar et al., ICML 2024)", "MNIST", "98.3", "4,082", "3,385",
              "827", "6.0", VU9P, "not counted", f"quoted by {STUDY}"),
    Published("DWN, n = 6, md", "MNIST", "97.9", "1,413", "1,143", "827", "3.6", VU9P,
              "not counted", f"quoted by {STUDY}"),
    Published("DWN, n = 6, sm", "MNIST", "97.1", "692", "422", "827", "2.4", VU9P, "not counted",
              f"quoted by {STUDY}"),
    Published("DWN, rebuilt by the study", "MNIST", "97.76", "3,464", "-", "103.8", "5 cycles",
              "Artix-7 35T-1, Vivado", "counted", STUDY),
    Published("TreeLUT I (Khataei, Bazargan, FPGA 2025)", "MNIST", "97", "4,478", "-", "791",
              "2.5", VU9P, "counted", f"quoted by {STUDY}"),
    Published("TreeLUT II", "MNIST", "96", "3,499", "-", "874", "2.3", VU9P, "counted",
              f"quoted by {STUDY}"),
    Published("KANELE (FPGA 2026), 784-62-10, 1-bit input", "MNIST", "96.25", "7,570", "10,442",
              "-", "13 cycles", "Vivado", "-", "github.com/Duchstf/KANELE, committed report"),
    Published("PolyLUT-Add HDR-Add2, D = 3 (FPL 2024)", "MNIST", "96", "14,810", "2,609", "625",
              "10", VU9P, "-", "github.com/bingleilou/PolyLUT-Add"),
    Published("AmigoLUT-NeuraLUT x4 (FPGA 2025)", "MNIST", "95.5", "16,081", "-", "925", "7.6",
              VU9P, "-", f"quoted by {STUDY}"),
    Published("NeuraLUT HDR-5L (FPL 2024)", "MNIST", "96 (95.20 in an independent rerun)",
              "54,798", "3,757", "431", "12", VU9P, "-", f"quoted by {STUDY}"),
    Published("SparseLUT on NeuraLUT", "MNIST", "96.96", "54,798", "-", "431", "12", VU9P, "-",
              f"quoted by {STUDY}"),
    Published("ReducedLUT HDR-5L (FPGA 2025)", "MNIST", "95.7", "47,484", "-", "295", "17", VU9P,
              "-", f"quoted by {STUDY}"),
    Published("PolyLUT HDR, D = 4 (FPT 2023)", "MNIST", "96", "70,673", "4,681", "378", "16", VU9P,
              "-", f"quoted by {STUDY}"),
    Published("FINN SFC-max (FPGA 2017)", "MNIST", "96", "91,131", "-", "200", "310",
              "Vivado; 5 block RAMs", "-", f"quoted by {STUDY}"),
    Published("hls4ml, ternary", "MNIST", "95", "260,092", "165,513", "200", "190", "Vivado", "-",
              f"quoted by {STUDY}"),
    Published("BTHOWeN S / M / L", "MNIST", "93.4 / 94.3 / 95.2", "15,756 / 38,912 / 151,704",
              "3,522 / 6,577 / 18,796", "100", "25 / 37 / 74 cycles", "7-series, Vivado", "-",
              f"quoted by {STUDY}"),
)  # fmt: skip
