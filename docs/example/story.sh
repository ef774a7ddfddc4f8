#!/usr/bin/env bash
# A student's story: from an empty folder, with PuriFlow installed by pip, to a result file.
# Usage: story.sh EXAMPLE, the folder of this script; all is made in the working folder.
set -euo pipefail
cp -r "$1/myparts" "$1/mymodel.py" "$1/example.yaml" .

echo "== a photograph, purified by super-resolution and diffusion, and blurred by a part of my own"
python -c "
import numpy as np
from PIL import Image
Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save('photo.png')"
puriflow purify photo.png --out purified --restorer esrgan-x2 --purifier vpsde-t10
puriflow purify photo.png --out blurred --restorer blur --config example.yaml

echo "== my own model, and the same behind my own part"
for defence in plain blurred; do
    printf '%s\n' "defence: mymodel:$defence" "data: mymodel:data" "attack: quick" "eps: 6/255" "out: judged-$defence" > "$defence.yaml"
    puriflow benchmark "$defence.yaml"
done

echo "== how the two differ, and a table for the thesis"
puriflow diff judged-plain judged-blurred || [ $? -eq 1 ]
python -c "
from pathlib import Path
from puriflow.benchmarking.record import Benchmark
print(Benchmark.from_json(Path('judged-blurred/benchmark.json')).to_latex())"
