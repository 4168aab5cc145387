"""What all groups of settings have in common."""

import pytest
from pydantic import ValidationError

from aanet_assets.study import settings as groups
from aanet_assets.study.settings.base import Settings

GROUPS = [
    group
    for group in vars(groups).values()
    if isinstance(group, type) and issubclass(group, Settings) and group is not Settings
]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_field_is_documented_and_no_other_is_taken(group: type[Settings]) -> None:
    undocumented = [name for name, field in group.model_fields.items() if not field.description]
    assert undocumented == []
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        group.model_validate({"no_such_field": 1})


def test_there_are_groups() -> None:
    assert len(GROUPS) > 10


@pytest.mark.parametrize(("field", "wrong"), [("seq_len", 1), ("shards_per_run", 0)])
def test_counts_have_a_least(field: str, wrong: int) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to"):
        groups.CacheSettings.model_validate({field: wrong})
