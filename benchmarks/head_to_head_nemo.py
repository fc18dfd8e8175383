"""The job of `head_to_head.py` for nemo-curator 1.4.0, run by that package's own Python.

    PYTHON head_to_head_nemo.py VIDEO_DIR OUT_DIR

As its video tutorial lays it out: read, clips of ten seconds (its shot network wants a GPU), transcode by the software
encoder that it ships, motion scores, write. Xenna's batch mode, the one that begins on two cores.
"""

import sys

from nemo_curator.backends.xenna import XennaExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.video.clipping.clip_extraction_stages import ClipTranscodingStage, FixedStrideExtractorStage
from nemo_curator.stages.video.filtering.motion_filter import MotionFilterStage, MotionVectorDecodeStage
from nemo_curator.stages.video.io.clip_writer import ClipWriterStage
from nemo_curator.stages.video.io.video_reader import VideoReader


def main() -> None:
    videos, out = sys.argv[1:]
    stages = (
        VideoReader(input_video_path=videos),
        FixedStrideExtractorStage(clip_len_s=10.0, clip_stride_s=10.0, min_clip_length_s=1.0, limit_clips=0),
        ClipTranscodingStage(num_cpus_per_worker=1.0, encoder="libvpx-vp9", encode_batch_size=4),
        MotionVectorDecodeStage(num_cpus_per_worker=1.0),
        MotionFilterStage(score_only=True, num_gpus_per_worker=0),
        ClipWriterStage(
            output_path=out, input_path=videos, upload_clips=True, dry_run=False, generate_embeddings=False,
            generate_previews=False, generate_captions=False,
        ),
    )  # fmt: skip
    pipeline = Pipeline(name="head to head")
    for stage in stages:
        pipeline.add_stage(stage)
    pipeline.run(XennaExecutor(config={"execution_mode": "batch"}))


if __name__ == "__main__":
    main()
