#!/usr/bin/env python3
"""check_bytes.py BN_CONVERT [--convert FAMILY] [--peak-mib N]

Hollow checkpoints of the published models in their true dimensions: the bytes and the number of
tensors that bn-convert announces are those of the published files. With --convert, one of them is really
converted, and its peak of memory compared.
"""
import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile

from families import DATA_BYTES, TENSORS, family
from make_checkpoint import make


def announced(convert, folder):
    text = subprocess.run([convert, "--info", folder], check=True, capture_output=True,
                          text=True).stdout
    found = re.search(r"^tensor data +(\d+) bytes in (\d+) tensors", text, re.M)
    return int(found[1]), int(found[2])


def check(convert, name, folder):
    make(family(name, true_size=True), folder, 1, hollow=True)
    got, wanted = announced(convert, folder), (DATA_BYTES[name], TENSORS[name])
    print(f"{name}: {got[0]} bytes in {got[1]} tensors", "" if got == wanted else f"not {wanted}")
    return got == wanted


def really_convert(a, folder):
    make(family(a.convert, true_size=True), folder, 1, hollow=True)
    subprocess.run([a.program, folder, "-q", "-o", folder + ".gguf"], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    size = os.path.getsize(folder + ".gguf")
    print(f"{a.convert}: {size} bytes of file, peak {peak} MiB of memory")
    return peak < a.peak_mib and size > DATA_BYTES[a.convert]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("program")
    parser.add_argument("--convert", choices=sorted(DATA_BYTES))
    parser.add_argument("--peak-mib", type=int, default=1024)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bnd-bytes-") as folder:
        if a.convert:
            return 0 if really_convert(a, os.path.join(folder, "hf")) else 1
        good = [check(a.program, name, os.path.join(folder, name)) for name in DATA_BYTES]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
