# SPDX-License-Identifier: Apache-2.0
"""The errors a user may meet. Each message names what broke, the rule, and the way out."""


class HwflowError(Exception):
    """Base of every error a user reads; the command line prints it without traceback."""


class ConfigError(HwflowError):
    """A wrong option, board file or file name."""


class DataError(HwflowError):
    """A data set that is missing, damaged or not of the stated form."""


class GraphError(HwflowError):
    """A network that breaks a rule of the integer contract or is not supported; names the node."""


class VerifyError(HwflowError):
    """Two executions of one network disagree; names the first layer, channel and pixel."""


class ToolError(HwflowError):
    """An external tool is missing, failed or left no product; carries the end of its log."""


class ResourceError(HwflowError):
    """A design needs more of a resource than the board has; names the resource."""
