# SPDX-License-Identifier: Apache-2.0
"""External tools: each module makes plans for one tool and reads what it leaves."""
