# SPDX-License-Identifier: Apache-2.0
"""Other methods that classify in lookup tables, for `hwflow bench tables`.

Each file builds one method: it trains outside of hwflow (a process of its own, in an environment
of its own if one likes), reads back plain numbers, and gives RTL together with the class that its
own integer model says for every test sample. Nothing here is needed by a build.
"""
