"""The toy's language model: a word-level tokenizer and a small GPT-2, trained on a union process.

Token ids below the number of letters are the letters themselves, in the process's order; the
special tokens come after them.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from aanet_assets.science.toy.own_process import KnownProcess
from aanet_assets.study.progress import Progress
from aanet_assets.study.seeds import seed_for

LENGTH = 16  # letters per document
BATCH = 256  # documents per step
LR, BETAS, WEIGHT_DECAY = 3e-3, (0.9, 0.98), 0.01
WARM_UP = 200  # steps
STEPS_PER_DRAW = 16  # documents are drawn for several steps at once, which is faster
SPECIAL_TOKENS = ("<bos>", "<pad>", "<unk>")


class Quality(NamedTuple):
    """How close a model comes to the best possible prediction, after each letter of a document."""

    loss: float
    """Expected loss in nats, under the exact distribution of the next letter."""
    bayes_loss: float
    """The least possible value of that loss."""
    top1: float
    """Probability that the model's likeliest letter comes next."""
    bayes_top1: float
    """The largest possible value of that probability."""


def make_tokenizer(process: KnownProcess, length: int = LENGTH) -> PreTrainedTokenizerFast:
    """One token per letter, split at spaces, `<bos>` put in front."""
    ids = {word: i for i, word in enumerate((*process.letters, *SPECIAL_TOKENS))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", ids["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=length + 1,
        clean_up_tokenization_spaces=False,
    )


def with_bos(
    letters: Int[np.ndarray, "documents length"], process: KnownProcess
) -> Int[Tensor, "documents length_and_bos"]:
    """Token ids of whole documents, as the tokenizer gives them."""
    return torch.nn.functional.pad(torch.from_numpy(letters), (1, 0), value=len(process.letters))


def train_transformer(
    process: KnownProcess, steps: int, seed: int, length: int = LENGTH, width: int = 64
) -> GPT2LMHeadModel:
    """Train the language model on fresh documents at every step.

    The targets are the exact distributions of the next letter, not letters drawn from them: the
    expected loss is the same and its gradient far less noisy.
    """
    model = _new_model(process, length, width, seed_for(seed, "weights"))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, steps))
    progress = Progress(steps, "steps", "training the toy's transformer")
    for draw in range(0, steps, STEPS_PER_DRAW):
        n_steps = min(STEPS_PER_DRAW, steps - draw)
        letters = process.sample(n_steps * BATCH, length, seed_for(seed, "documents", draw))
        targets = torch.from_numpy(_targets(process, letters)).float()
        tokens = with_bos(letters, process)
        for ids, target in zip(tokens.split(BATCH), targets.split(BATCH), strict=True):
            logits = model(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress.advance()
    return model.eval()


@torch.no_grad()
def quality(
    model: GPT2LMHeadModel,
    process: KnownProcess,
    letters: Int[np.ndarray, "documents length"],
) -> Quality:
    """Compare a model with the exact process on the given documents."""
    exact = process.predictive(letters)
    tokens = with_bos(letters, process)
    logits = torch.cat(
        [model(input_ids=ids, use_cache=False).logits for ids in tokens.split(BATCH)]
    )
    log_p = logits[:, 1:].log_softmax(-1)[..., : len(process.letters)].double().numpy()
    guess = log_p.argmax(-1)[..., None]
    return Quality(
        loss=float(-(exact * log_p).sum(-1).mean()),
        bayes_loss=process.bayes_loss(letters),
        top1=float(np.take_along_axis(exact, guess, axis=-1).mean()),
        bayes_top1=float(exact.max(-1).mean()),
    )


@torch.no_grad()
def residuals(
    model: GPT2LMHeadModel,
    process: KnownProcess,
    letters: Int[np.ndarray, "documents length"],
    layer: int,
) -> Float[Tensor, "tokens d_model"]:
    """Residual stream after block `layer`, document by document, `<bos>` left out."""
    kept: list[Tensor] = []
    block = model.transformer.h[layer]
    handle = block.register_forward_hook(lambda *call: kept.append(call[2][:, 1:].flatten(0, 1)))
    try:
        for ids in with_bos(letters, process).split(BATCH):
            model(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    return torch.cat(kept)


def _new_model(process: KnownProcess, length: int, width: int, seed: int) -> GPT2LMHeadModel:
    """Untrained, 3 layers."""
    n_letters = len(process.letters)
    config = GPT2Config(
        vocab_size=n_letters + len(SPECIAL_TOKENS),
        n_positions=length + 1,
        n_embd=width,
        n_layer=3,
        n_head=4,
        n_inner=4 * width,
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=n_letters,
        pad_token_id=n_letters + 1,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    # The library initialises from the global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def _targets(
    process: KnownProcess, letters: Int[np.ndarray, "documents length"]
) -> Float[np.ndarray, "documents length_and_bos tokens"]:
    """Exact distribution over token ids of the next letter, at `<bos>` and after each letter."""
    first = np.broadcast_to(process.first_letter, (len(letters), 1, len(process.letters)))
    exact = np.concatenate([first, process.predictive(letters)], axis=1)
    return np.pad(exact, ((0, 0), (0, 0), (0, len(SPECIAL_TOKENS))))


def _lr_factor(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + float(np.cos(np.pi * (step - WARM_UP) / max(steps - WARM_UP, 1))))
