"""What the lock files must never bring."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNWANTED = {"torch", "transformers", "sentence-transformers", "tensorflow", "jax"}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_no_lock_brings_a_deep_learning_framework(lock):
    packages = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / lock).read_text(), flags=re.MULTILINE))
    assert "onnxruntime" in packages
    assert packages.isdisjoint(UNWANTED)
    assert not {package for package in packages if package.startswith("nvidia")}
