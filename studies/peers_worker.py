"""Pass images from standard input through a network, on one thread.

peers.py starts this in the peer's own environment.
"""

import os
import sys
import time

import numpy as np

kind, network = sys.argv[1:3]
replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # libraries print to standard output
if kind == "tk_r_em":
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    from tk_r_em import load_network

    run = load_network(network).predict  # scale and offset of its input do not matter
elif kind == "topaz":
    from topaz.denoise import Denoise

    run = Denoise(network).denoise  # brings its input to mean 0 and SD 1
else:
    from napari_lowdose_tem.engine.engine import Engine

    run = Engine(network, "cpu").enhance
while header := sys.stdin.buffer.readline():
    rows, cols = map(int, header.split())
    image = np.frombuffer(sys.stdin.buffer.read(4 * rows * cols), np.float32).reshape(rows, cols).copy()
    start = time.process_time()
    output = np.asarray(run(image), np.float32)
    replies.write(f"{time.process_time() - start}\n".encode() + output.tobytes())
    replies.flush()
