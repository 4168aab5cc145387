"""The whole language model, and its upper layers alone, run on a given residual stream.

All that runs is the model's own code: norms, soft caps and scales of logits are in it.
"""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from inspect import signature
from itertools import chain
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from aanet_assets.science.activations.architecture import (
    body_of,
    check_stream,
    class_with_head,
    layers_of,
    load_config,
    stream_into,
    stream_out_of,
    unreadable,
)
from aanet_assets.science.activations.language_model import (
    FarEnough,
    layers_below,
    load_weights,
    require_layer,
    threads_for,
)
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.stand_in import from_hub
from aanet_assets.study.study import Study, resolve
from aanet_assets.study.threads import torch_threads

_PROBE = 8
"""Tokens on which a model is tried before it is used."""
_ROUNDING, _ROUNDING_OF_EXPERTS = 1e-3, 2e-2
"""Share of the largest logit by which rounding may move one: of the same tokens, and where experts
are given others beside them."""


class WholeModel:
    """A study's language model, its head included.

    Raises:
        ValueError: the model cannot be read, has no head or lacks some of its weights.
    """

    def __init__(self, study: Study):
        is_local = resolve(study.model).is_dir()
        with nullcontext() if is_local else from_hub(f"the language model {study.model}"):
            self.config = load_config(study)
            kind = class_with_head(self.config)
            loaded: Any = load_weights(
                kind, study, self.config, lambda model: layers_of(body_of(model))
            )
        self.model: PreTrainedModel = loaded.to(study.device).eval()
        self.body = body_of(self.model)
        self.vocabulary: int = self.config.get_text_config().vocab_size
        """Tokens that have a logit."""
        self._study, self._threads = study, threads_for(self.config)
        self._check_causal()

    def probe(self) -> Int[Tensor, "1 seq"]:
        """A few tokens, whatever they say."""
        return torch.arange(_PROBE)[None] % self.vocabulary

    def _check_causal(self) -> None:
        """Refuse a model whose tokens see later ones: it is told what it would have to predict."""
        tokens = self.probe()
        own = self.logits(tokens)[:, :-1]
        tokens[:, -1] = 0
        if _apart(self.logits(tokens)[:, :-1], own) > _ROUNDING_OF_EXPERTS:
            raise unreadable(
                self.config,
                "its tokens see later ones, so that it does not predict the next one from those "
                "before",
            )

    def logits(
        self, tokens: Int[Tensor, "batch seq"], cache: DynamicCache | None = None
    ) -> Float32[Tensor, "batch seq vocab"]:
        """Logits of the token after each one.

        Args:
            tokens: token ids.
            cache: keys and values of the tokens before these, to which theirs are added.

        Raises:
            ValueError: some are not finite.
        """
        logits = self._run(self.model, tokens, cache).logits.float()
        if not logits.isfinite().all():
            what_to_do = (
                "set dtype to 'bfloat16' or 'float32', which hold larger numbers"
                if self._study.dtype == "float16"
                else "get the model again, whose weights may be damaged"
            )
            raise ValueError(
                f"the model {self._study.model} gives logits that are NaN or infinite in "
                f"{self._study.dtype}: {what_to_do}"
            )
        return logits

    def run_body(self, tokens: Int[Tensor, "batch seq"], cache: DynamicCache | None = None) -> None:
        """Run it without its head, for what hooks see or the cache keeps."""
        self._run(self.body, tokens, cache)

    @torch.inference_mode()
    def _run(self, module: nn.Module, tokens: Tensor, cache: DynamicCache | None) -> Any:
        # Transformers 5 gives it another name on the way.
        name = "cache" if "cache" in signature(module.forward).parameters else "past_key_values"
        kept = {} if cache is None else {name: cache}
        with torch_threads(self._threads):
            ids = tokens.to(self._study.device)
            return module(input_ids=ids, use_cache=cache is not None, **kept)


def _apart(found: Tensor, expected: Tensor) -> float:
    """Largest difference of logits, as a share of the largest of them."""
    return float((found - expected).abs().max() / expected.abs().max())


class Unedited(NamedTuple):
    """A chunk as it is, for edits of its tokens."""

    residual: Float32[Tensor, "seq d_model"]
    """Residual stream at the point."""
    attended: list[tuple[Tensor, Tensor]]
    """Keys and values (heads, seq, width) of each layer, by which later tokens see earlier ones;
    none where no layer is above the point, or where the model has a state in their place."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(each.nbytes for each in (self.residual, *chain.from_iterable(self.attended)))


class UpperReader:
    """The layers above one point of the residual stream, final norm and head included.

    The stream is the model's own, never centred. Layers below the point are passed through, unless
    upper ones use their keys and values.

    Args:
        study: names the model, its dtype and device.
        hook: the point.

    Raises:
        ValueError: the model cannot be read, or split there; it lacks the layer, the head or some
            of its weights.
    """

    def __init__(self, study: Study, hook: Hook):
        self.whole = WholeModel(study)
        require_layer(study, self.whole.config, hook)
        text = self.whole.config.get_text_config()
        layers = layers_of(self.whole.body)
        self.has_upper = layers_below(hook) < len(layers)
        """Whether a layer is above the point: else an edit needs no tokens before it."""
        self._passes = not getattr(text, "num_kv_shared_layers", 0)
        self._given: Tensor | None = None
        self._cache: DynamicCache | None = None
        self._reading, self._seen = False, None
        for place, layer in enumerate(layers[: layers_below(hook)]):
            layer.forward = self._or_pass(place, layer)
        if hook.side == "pre":
            layers[hook.layer].register_forward_pre_hook(self._before, with_kwargs=True)
        else:
            layers[hook.layer].register_forward_hook(self._after)
        self._check_split()

    def _or_pass(self, place: int, layer: nn.Module) -> Callable[..., Any]:
        """The layer's own work; or, where the stream above is given, none.

        A layer that is passed keeps its place in the cache, by whose length models count tokens.
        """
        work, others = layer.forward, None

        def forward(*inputs: Any, **named: Any) -> Any:
            nonlocal others
            if self._given is None or not self._passes:
                output = work(*inputs, **named)
                others = None if isinstance(output, Tensor) else len(output) - 1
                return output
            stream = stream_into(inputs, named)
            if self._cache is not None:
                nothing = stream.new_zeros(len(stream), 1, stream.shape[1], 1)
                self._cache.update(nothing, nothing, place)
            return stream if others is None else (stream, *[None] * others)

        return forward

    def _before(self, _layer: nn.Module, inputs: tuple, named: dict) -> tuple[tuple, dict]:
        stream = self._at_point(stream_into(inputs, named))
        if inputs:
            return (stream, *inputs[1:]), named
        return inputs, {**named, "hidden_states": stream}

    def _after(self, _layer: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        stream = self._at_point(stream_out_of(output))
        return stream if isinstance(output, Tensor) else (stream, *output[1:])

    def _at_point(self, stream: Tensor) -> Tensor:
        if self._reading:
            self._seen = stream
            raise FarEnough
        return stream if self._given is None else self._given.to(stream)

    def _check_split(self) -> None:
        """Refuse a model whose upper layers use more of the lower ones than their stream."""
        tokens = self.whole.probe()
        found = self.logits(tokens, self.residual(tokens))
        if _apart(found, self.whole.logits(tokens)) > _ROUNDING:
            raise unreadable(
                self.whole.config,
                "its upper layers use more of the lower ones than their residual stream",
            )

    def residual(self, tokens: Int[Tensor, "batch seq"]) -> Float32[Tensor, "batch seq d_model"]:
        """Residual stream at the point; nothing above it is run."""
        self._reading = True
        try:
            with suppress(FarEnough):
                self.whole.run_body(tokens)
        finally:
            self._reading = False
        seen, self._seen = self._seen, None
        if seen is None:
            raise unreadable(self.whole.config, "its layers do not run on tokens alone")
        check_stream(seen, tokens, self.whole.body)
        return seen.float()

    def logits(
        self,
        tokens: Int[Tensor, "batch seq"],
        residual: Float[Tensor, "batch seq d_model"],
    ) -> Float32[Tensor, "batch seq vocab"]:
        """Logits of the token after each one, with this residual stream at the point.

        Raises:
            ValueError: some are not finite.
        """
        return self._run(self.whole.logits, tokens, residual)

    def before_edits(
        self,
        tokens: Int[Tensor, "chunks seq"],
        residual: Float[Tensor, "chunks seq d_model"],
    ) -> list[Unedited]:
        """What edits of single tokens need of the chunks they stand in, computed once.

        Args:
            tokens: token ids.
            residual: residual stream at the point.
        """
        if not self.has_upper or self.whole.body._is_stateful:
            return [Unedited(own, []) for own in residual]
        cache = DynamicCache()
        self._run(self.whole.run_body, tokens, residual, cache)
        layers: list[Any] = cache.layers
        return [
            Unedited(own, [(layer.keys[i], layer.values[i]) for layer in layers])
            for i, own in enumerate(residual)
        ]

    def edited(
        self,
        tokens: Int[Tensor, " before"],
        unedited: Unedited,
        edits: Float[Tensor, "edits d_model"],
    ) -> Float32[Tensor, "edits vocab"]:
        """Logits of the token after the last one, for edits of the residual stream at the last one.

        An edit costs one token through the layers above the point.

        Args:
            tokens: token ids of a chunk, up to the one that is edited.
            unedited: of that chunk, by `before_edits`.
            edits: what takes its place, one after the other.

        Raises:
            ValueError: some logits are not finite.
        """
        number, before = len(edits), len(tokens) - 1
        last, new = tokens[-1:].expand(number, 1), edits[:, None]
        if not self.has_upper or not before:
            return self.logits(last, new)[:, 0]
        if self.whole.body._is_stateful:
            # A state in place of keys and values cannot be given: all tokens are run once more.
            own = unedited.residual[:before].expand(number, -1, -1)
            return self.logits(tokens.expand(number, -1), torch.cat([own, new], 1))[:, -1]
        cache = DynamicCache()
        for place, (keys, values) in enumerate(unedited.attended):
            shape = number, -1, -1, -1
            cache.update(keys[:, :before].expand(shape), values[:, :before].expand(shape), place)
        return self._run(self.whole.logits, last, new, cache)[:, 0]

    def _run(
        self,
        run: Callable[..., Any],
        tokens: Int[Tensor, "batch seq"],
        residual: Float[Tensor, "batch seq d_model"],
        cache: DynamicCache | None = None,
    ) -> Any:
        self._given, self._cache = residual, cache
        try:
            return run(tokens, cache)
        finally:
            self._given = self._cache = None
