# SPDX-License-Identifier: Apache-2.0
"""Numbers with their origin: the schema of report.json, readers of tool reports, the page."""
