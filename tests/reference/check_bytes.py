#!/usr/bin/env python3
"""check_bytes.py BN_CONVERT [--convert FAMILY] [--peak-mib N]

Hollow checkpoints of the published models in their true dimensions and depth: bn-convert knows which one it
is, and the tensors and bytes that it announces, those counted from the dimensions, and those of the published
files are the same; and it is not so for a model with a layer less. With --convert, one of them is really
converted, its tensors counted in the file, and the converter's peak of memory compared.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

import gguf_sizes
from families import PUBLISHED, family
from make_checkpoint import make

MODELS = 12


def announced(convert, folder):
    text = subprocess.run([convert, "--info", "--kernel", "i2_s", folder], check=True, capture_output=True,
                          text=True).stdout
    found = re.search(r"^tensor data +(\d+) bytes in (\d+) tensors", text, re.M)
    known = re.search(r"^dimensions +those of (.*)", text, re.M)[1] != "no model known by name"
    return (int(found[1]), int(found[2])), known


def agrees(convert, name, folder, layers=None):
    """Whether all agree on a known model; whether announced and counted agree on an unknown one."""
    f = family(name, True, layers)
    make(f, folder, 1, hollow=True)
    f32, f16, i2_s, size = gguf_sizes.of_family(f)
    got, known = announced(convert, folder)
    counted = got == (size, f32 + f16 + i2_s)
    print(f"{name}, {f['layers']} layers: {got[0]} bytes in {got[1]} tensors; counted {size} in "
          f"{f32} + {f16} + {i2_s}; published {PUBLISHED[name]}, known: {known}")
    return counted and known and (f32, f16, i2_s, size) == PUBLISHED[name], counted and not known


def check_all(convert, folder):
    good = 0
    for name in PUBLISHED:
        good += agrees(convert, name, os.path.join(folder, name))[0]
    fewer = family("large", True)["layers"] - 1
    as_published, unknown = agrees(convert, "large", os.path.join(folder, "fewer"), fewer)
    return good == MODELS and unknown and not as_published


def really_convert(a, folder):
    make(family(a.convert, true_size=True), folder, 1, hollow=True)
    start = time.monotonic()
    pid = os.posix_spawn(a.program, [a.program, folder, "-q", "-o", folder + ".gguf"], os.environ)
    _, status, usage = os.wait4(pid, 0)
    took, peak = time.monotonic() - start, usage.ru_maxrss // 1024
    if status != 0:
        return False
    found = gguf_sizes.of_file(folder + ".gguf")
    print(f"{a.convert}: {os.path.getsize(folder + '.gguf')} bytes of file, tensors {found}, "
          f"{took:.1f} s, peak {peak} MiB of memory")
    return peak < a.peak_mib and found == PUBLISHED[a.convert]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("program")
    parser.add_argument("--convert", choices=sorted(PUBLISHED))
    parser.add_argument("--peak-mib", type=int, default=1024)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bnd-bytes-") as folder:
        if a.convert:
            return 0 if really_convert(a, os.path.join(folder, "hf")) else 1
        return 0 if check_all(a.program, folder) else 1


if __name__ == "__main__":
    sys.exit(main())
