"""Damaged shards, and codes that no sparse autoencoder of this model would give."""

from pathlib import Path

import numpy as np
import pytest

from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.checks.activations import check_shard
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.settings import FitSettings
from aanet_assets_tests.checks.damage import edit_arrays, failures
from aanet_assets_tests.shards import write_shard

SEQ_LEN, SPECIAL_IDS, THRESHOLD = 17, [23, 24, 25], 1e-6
SHARE = FitSettings().max_l0_share


def checked(path: Path, seq_len: int = SEQ_LEN, threshold: float = THRESHOLD) -> dict[str, str]:
    return failures(check_shard(path, seq_len, SPECIAL_IDS, threshold, SHARE))


@pytest.fixture
def shard(paths: StudyPaths) -> Path:
    return SHARD.under(paths.root, shard=0)


def test_a_good_shard_passes(shard: Path) -> None:
    findings = check_shard(shard, SEQ_LEN, SPECIAL_IDS, THRESHOLD, SHARE)
    assert all(finding.passed and finding.blocking for finding in findings)
    assert findings[-1].said.startswith("3 latents are active per token; it must be more than 0")


def test_half_a_file(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert "shard_00000.safetensors is not a shard" in checked(shard)["structure"]


def test_no_file(shard: Path) -> None:
    shard.unlink()
    assert "is not a shard" in checked(shard)["structure"]


def test_an_array_is_missing(shard: Path) -> None:
    edit_arrays(shard, lambda arrays: arrays.pop("counts"))
    assert "is not a shard" in checked(shard)["structure"]


def test_chunks_of_another_length(shard: Path) -> None:
    said = checked(shard, seq_len=16)["structure"]
    assert said == (
        "tokens have shape (1500, 17) and the special positions (1500, 17); both must be chunks "
        "of 16"
    )


@pytest.mark.parametrize("name", ["documents", "starts"])
def test_chunks_without_a_place(shard: Path, name: str) -> None:
    edit_arrays(shard, lambda arrays: arrays.update({name: arrays[name][1:]}))
    said = checked(shard)["structure"]
    assert said == f"1,500 chunks have 1,499 {name}; each needs one"


@pytest.mark.parametrize("length", [None, np.nan])
def test_tokens_without_a_length(shard: Path, length: float | None) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        if length is None:
            arrays["norms"] = arrays["norms"][1:]
        else:
            arrays["norms"][0, 0] = length

    edit_arrays(shard, spoil)
    assert "lengths of the residual stream are finite" in checked(shard)["structure"]


def test_counts_of_other_tokens(shard: Path) -> None:
    def shorter(arrays: dict[str, np.ndarray]) -> None:
        arrays["counts"] = arrays["counts"][:-1]

    edit_arrays(shard, shorter)
    assert "25,499 tokens have a count of codes; there are 25,500" in checked(shard)["structure"]


def test_counts_that_do_not_add_up(shard: Path) -> None:
    def one_more(arrays: dict[str, np.ndarray]) -> None:
        arrays["counts"][5] += 1

    edit_arrays(shard, one_more)
    assert "the counts add up to 72,001 codes" in checked(shard)["structure"]


@pytest.mark.parametrize("latent", [32, 255])
def test_latents_that_the_sae_does_not_have(shard: Path, latent: int) -> None:
    def stray(arrays: dict[str, np.ndarray]) -> None:
        arrays["latents"][7] = latent

    edit_arrays(shard, stray)
    assert "the SAE's run from 0 to 31" in checked(shard)["structure"]


def shift_codes_to(token: int):
    """Give the codes of the next token to this one."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["counts"][token] += arrays["counts"][token + 1]
        arrays["counts"][token + 1] = 0

    return change


def test_bos_with_codes(shard: Path) -> None:
    edit_arrays(shard, shift_codes_to(SEQ_LEN))
    assert checked(shard) == {
        "special_tokens_silent": "1 of 1,500 BOS, special and first tokens carry codes; none may"
    }


def test_a_special_token_that_the_shard_itself_does_not_know_of(shard: Path) -> None:
    def special_inside(arrays: dict[str, np.ndarray]) -> None:
        arrays["tokens"][3, 4] = SPECIAL_IDS[-1]

    edit_arrays(shard, special_inside)
    assert list(checked(shard)) == ["special_tokens_silent"]


@pytest.mark.parametrize("code", [np.nan, np.inf, -1.0, 0.0, 1e-7])
def test_codes_out_of_range(shard: Path, code: float) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["values"][11] = code

    edit_arrays(shard, spoil)
    assert list(checked(shard)) == ["codes_in_range"]


def written(path: Path, codes: np.ndarray, threshold: float) -> Path:
    chunks, seq = codes.shape[:2]
    special = np.zeros((chunks, seq), dtype=bool)
    special[:, 0] = True
    return write_shard(path, np.ones((chunks, seq), dtype=np.int64), special, codes, threshold)


@pytest.mark.parametrize(("active", "passes"), [(0, False), (1, True), (8, True), (9, False)])
def test_codes_are_there_and_sparse(tmp_path: Path, active: int, passes: bool) -> None:
    codes = np.zeros((3, 5, 32))
    codes[..., :active] = 0.5
    failed = checked(written(tmp_path / "shard", codes, THRESHOLD), seq_len=5)
    assert set(failed) == (set() if passes else {"active_latents"})


def test_how_many_may_be_active_is_a_setting(tmp_path: Path) -> None:
    path = written(tmp_path / "shard", np.ones((3, 5, 17)), THRESHOLD)
    findings = check_shard(path, 5, SPECIAL_IDS, THRESHOLD, max_l0_share=1.0)
    assert failures(findings) == {}
    assert "at most 4.25, 0.25 of 17: " in checked(path, seq_len=5)["active_latents"]


def test_a_shard_of_special_tokens_alone(tmp_path: Path) -> None:
    failed = checked(written(tmp_path / "shard", np.ones((3, 1, 32)), THRESHOLD), seq_len=1)
    assert "0 latents are active per token" in failed["active_latents"]


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 1e-6, 3e-4, 0.1])
def test_codes_that_float16_rounds_down_pass(tmp_path: Path, threshold: float) -> None:
    just_above = np.nextafter(np.float32(threshold), np.float32(1), dtype=np.float32)
    codes = np.zeros((2, 4, 32), dtype=np.float32)
    codes[..., 0] = just_above
    path = written(tmp_path / "shard", codes, threshold)
    assert checked(path, seq_len=4, threshold=threshold) == {}
