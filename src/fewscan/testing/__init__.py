"""Contracts as test classes: subclass one in a test file of your own, say what to test, and pytest does the rest.

Each class is for one seam of fewscan and holds what every implementation owes its callers, those from elsewhere too.
pytest has to be installed: `pip install 'fewscan[dev]'`.
"""

from pkgutil import iter_modules

import pytest

# Asserts of the contracts show what they compared, as those of test files do.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))
