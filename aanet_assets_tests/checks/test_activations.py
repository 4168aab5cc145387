"""Damaged shards, and codes that no sparse autoencoder of this model would give."""

from pathlib import Path

import numpy as np
import pytest

from aanet_assets.steps.activations import SHARD, activation_cache
from aanet_assets.steps.checks.activations import check_shard
from aanet_assets.study.settings import FitSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, edit_arrays, failures
from aanet_assets_tests.outputs import findings
from aanet_assets_tests.shards import write_shard

PARTITION = activation_cache.at(shard=0)
SEQ_LEN, SPECIAL_IDS, THRESHOLD = 17, [23, 24, 25], 1e-6
SHARE = FitSettings().max_l0_share


@pytest.fixture
def shard(study: Study) -> Path:
    return SHARD.under(study.paths.root, shard=0)


def checked(study: Study) -> dict[str, str]:
    """What the failed checks of that shard say."""
    return complaints(study, PARTITION)


def of_file(path: Path, seq_len: int, threshold: float = THRESHOLD) -> dict[str, str]:
    return failures(check_shard(path, seq_len, SPECIAL_IDS, threshold, SHARE))


def test_a_good_shard_passes(study: Study) -> None:
    found = findings(study, PARTITION)
    assert all(finding.passed and finding.blocking for finding in found.values())
    assert found["active_latents"].said.startswith(
        "3 latents are active per token; it must be more than 0"
    )


def test_half_a_file(study: Study, shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert "shard_00000.safetensors is not a shard" in checked(study)["structure"]


def test_no_file(study: Study, shard: Path) -> None:
    shard.unlink()
    assert "is not a shard" in checked(study)["structure"]


def test_an_array_is_missing(study: Study, shard: Path) -> None:
    edit_arrays(shard, lambda arrays: arrays.pop("counts"))
    assert "is not a shard" in checked(study)["structure"]


def test_chunks_of_another_length(study: Study) -> None:
    cache = study.cache.model_copy(update={"seq_len": 16})
    said = checked(study.model_copy(update={"cache": cache}))["structure"]
    assert said == (
        "tokens have shape (1500, 17) and the special positions (1500, 17); both must be chunks "
        "of 16"
    )


@pytest.mark.parametrize("name", ["documents", "starts"])
def test_chunks_without_a_place(study: Study, shard: Path, name: str) -> None:
    edit_arrays(shard, lambda arrays: arrays.update({name: arrays[name][1:]}))
    said = checked(study)["structure"]
    assert said == f"1,500 chunks have 1,499 {name}; each needs one"


@pytest.mark.parametrize("length", [None, np.nan])
def test_tokens_without_a_length(study: Study, shard: Path, length: float | None) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        if length is None:
            arrays["norms"] = arrays["norms"][1:]
        else:
            arrays["norms"][0, 0] = length

    edit_arrays(shard, spoil)
    assert "lengths of the residual stream are finite" in checked(study)["structure"]


def test_counts_of_other_tokens(study: Study, shard: Path) -> None:
    def shorter(arrays: dict[str, np.ndarray]) -> None:
        arrays["counts"] = arrays["counts"][:-1]

    edit_arrays(shard, shorter)
    assert "25,499 tokens have a count of codes; there are 25,500" in checked(study)["structure"]


def test_counts_that_do_not_add_up(study: Study, shard: Path) -> None:
    def one_more(arrays: dict[str, np.ndarray]) -> None:
        arrays["counts"][5] += 1

    edit_arrays(shard, one_more)
    assert "the counts add up to 72,001 codes" in checked(study)["structure"]


@pytest.mark.parametrize("latent", [32, 255])
def test_latents_that_the_sae_does_not_have(study: Study, shard: Path, latent: int) -> None:
    def stray(arrays: dict[str, np.ndarray]) -> None:
        arrays["latents"][7] = latent

    edit_arrays(shard, stray)
    assert "the SAE's run from 0 to 31" in checked(study)["structure"]


def shift_codes_to(token: int):
    """Give the codes of the next token to this one."""

    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["counts"][token] += arrays["counts"][token + 1]
        arrays["counts"][token + 1] = 0

    return change


def test_bos_with_codes(study: Study, shard: Path) -> None:
    edit_arrays(shard, shift_codes_to(SEQ_LEN))
    assert checked(study) == {
        "special_tokens_silent": "1 of 1,500 BOS, special and first tokens carry codes; none may"
    }


def test_a_special_token_that_the_shard_itself_does_not_know_of(study: Study, shard: Path) -> None:
    def special_inside(arrays: dict[str, np.ndarray]) -> None:
        arrays["tokens"][3, 4] = SPECIAL_IDS[-1]

    edit_arrays(shard, special_inside)
    assert list(checked(study)) == ["special_tokens_silent"]


@pytest.mark.parametrize("code", [np.nan, np.inf, -1.0, 0.0, 1e-7])
def test_codes_out_of_range(study: Study, shard: Path, code: float) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["values"][11] = code

    edit_arrays(shard, spoil)
    assert list(checked(study)) == ["codes_in_range"]


def written(path: Path, codes: np.ndarray, threshold: float) -> Path:
    chunks, seq = codes.shape[:2]
    special = np.zeros((chunks, seq), dtype=bool)
    special[:, 0] = True
    return write_shard(path, np.ones((chunks, seq), dtype=np.int64), special, codes, threshold)


@pytest.mark.parametrize(("active", "passes"), [(0, False), (1, True), (8, True), (9, False)])
def test_codes_are_there_and_sparse(tmp_path: Path, active: int, passes: bool) -> None:
    codes = np.zeros((3, 5, 32))
    codes[..., :active] = 0.5
    said = of_file(written(tmp_path / "shard", codes, THRESHOLD), seq_len=5)
    assert set(said) == (set() if passes else {"active_latents"})


def test_how_many_may_be_active_is_a_setting(tmp_path: Path) -> None:
    path = written(tmp_path / "shard", np.ones((3, 5, 17)), THRESHOLD)
    assert failures(check_shard(path, 5, SPECIAL_IDS, THRESHOLD, max_l0_share=1.0)) == {}
    assert "at most 4.25, 0.25 of 17: " in of_file(path, seq_len=5)["active_latents"]


def test_a_shard_of_special_tokens_alone(tmp_path: Path) -> None:
    said = of_file(written(tmp_path / "shard", np.ones((3, 1, 32)), THRESHOLD), seq_len=1)
    assert "0 latents are active per token" in said["active_latents"]


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 1e-6, 3e-4, 0.1])
def test_codes_that_float16_rounds_down_pass(tmp_path: Path, threshold: float) -> None:
    just_above = np.nextafter(np.float32(threshold), np.float32(1), dtype=np.float32)
    codes = np.zeros((2, 4, 32), dtype=np.float32)
    codes[..., 0] = just_above
    path = written(tmp_path / "shard", codes, threshold)
    assert of_file(path, seq_len=4, threshold=threshold) == {}
