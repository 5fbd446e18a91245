"""Enhancing frames and stacks: the job, where it is computed, where its output goes."""

from napari_lowdose_tem.enhancement.blocks import Block
from napari_lowdose_tem.enhancement.job import EnhanceJob, Progress
from napari_lowdose_tem.enhancement.run import enhance, iter_enhance

__all__ = ["Block", "EnhanceJob", "Progress", "enhance", "iter_enhance"]
