"""The studies: one module each, which builds a `Study` and ends in `defs = build_defs(study)`.

Those of a project are in its folder `studies/`, which counts as a part of this package.
"""

from aanet_assets.study.layout import data_root

__path__.append(str(data_root().parent / "studies"))
