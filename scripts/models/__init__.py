# SPDX-License-Identifier: Apache-2.0
"""The model zoo: published architectures with seeded weights. `scripts/make_models.py` writes them."""
