"""Editing models behind one protocol: encode a context once, predict velocities, decode.

`sample` rolls out, `replay` scores a step again with the same forward; `build_editor` loads a pipeline of diffusers.
"""

from editr1.editors.base import Editor, EditorOptions
from editr1.editors.build import EDITORS, build_editor, wrap
from editr1.editors.cache import ContextCache
from editr1.editors.context import Batch, Context, Geometry, collate
from editr1.editors.pipeline import PipelineEditor
from editr1.editors.sampling import Rollout, group_by_geometry, replay, rescore, sample, sample_images

__all__ = [
    "EDITORS",
    "Batch",
    "Context",
    "ContextCache",
    "Editor",
    "EditorOptions",
    "Geometry",
    "PipelineEditor",
    "Rollout",
    "build_editor",
    "collate",
    "group_by_geometry",
    "replay",
    "rescore",
    "sample",
    "sample_images",
    "wrap",
]
