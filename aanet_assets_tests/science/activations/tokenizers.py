"""Small tokenizers of every kind, with control tokens, and words that are ordinary ones."""

from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

CONTROL = ("<s>", "</s>", "<|im_start|>")
ORDINARY = "<table>"
LINES = ["the cat sat on the mat", "a dog ran past the <s> and </s> and <|im_start|> </s> <s>"] * 40


def _byte_level() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(CONTROL), initial_alphabet=alphabet
    )


def _bpe_that_merges_them() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", *CONTROL])


def _unigram() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>", *CONTROL], unk_token="<unk>"
    )


def _word_piece() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["<unk>", *CONTROL])


def _word_level() -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, trainers.WordLevelTrainer(special_tokens=["<unk>", *CONTROL])


KINDS: dict[str, Callable[[], tuple[Tokenizer, trainers.Trainer]]] = {
    make.__name__.strip("_"): make
    for make in (_byte_level, _bpe_that_merges_them, _unigram, _word_piece, _word_level)
}


def small_tokenizer(kind: str, **roles: str) -> PreTrainedTokenizerBase:
    """A tokenizer of a kind; BOS and end-of-text unless `roles` says otherwise."""
    backend, trainer = KINDS[kind]()
    backend.train_from_iterator(LINES, trainer)
    backend.add_tokens([AddedToken(ORDINARY, normalized=False)])
    bos = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", bos)])
    unknown = {} if kind == "byte_level" else {"unk_token": "<unk>"}
    named = roles or {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **unknown, **named)


def slow_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A SentencePiece tokenizer in Python, as GPT-SW3's is."""
    import sentencepiece
    from transformers import GPTSw3Tokenizer

    prefix = folder / "slow"
    (folder / "lines.txt").write_text("\n".join(LINES), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"), model_prefix=str(prefix), vocab_size=60, pad_id=3,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    tokenizer = GPTSw3Tokenizer(
        f"{prefix}.model", bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        name_or_path="small",
    )  # fmt: skip
    tokenizer.add_tokens([ORDINARY])
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    return tokenizer
