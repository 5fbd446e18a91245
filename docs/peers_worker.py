"""Pass images from standard input through a network; peers.py starts this in the peer's own environment."""

import os
import sys
import time

import numpy as np

kind, network, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # libraries print to standard output
if kind == "tk_r_em":
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    from tk_r_em import load_network

    run = load_network(network).predict  # scale and offset of its input do not matter
elif kind == "topaz":
    from topaz.denoise import Denoise

    run = Denoise(network).denoise  # brings its input to mean 0 and SD 1
else:
    from napari_lowdose_tem.engine import Engine

    run = Engine(network, "cpu").enhance
while header := sys.stdin.buffer.readline():
    rows, cols = map(int, header.split())
    image = np.frombuffer(sys.stdin.buffer.read(4 * rows * cols), np.float32).reshape(rows, cols).copy()
    wall, cpu = time.perf_counter(), time.process_time()
    output = np.asarray(run(image), np.float32)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    replies.write(f"{wall} {cpu}\n".encode() + output.tobytes())
    replies.flush()
