"""Enhancing frames and stacks: the job, where it is computed, where its output goes."""

from napari_lowdose_tem.enhancement.run import Block, EnhanceJob, Progress, enhance, iter_enhance

__all__ = ["Block", "EnhanceJob", "Progress", "enhance", "iter_enhance"]
