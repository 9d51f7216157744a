"""Manifests that are refused: where, and in which words. And what the whole reader costs at most."""

import json
import subprocess
import sys

import pytest

from lab.batch.manifest import read_manifest
from shared.errors import InputError

CUBE = {"prompt": "a cube"}
HERO = {"prompt": "a cube", "kind": "image", "name": "hero"}
SEED = "expected a whole number of at least 0, below 9223372036854775808"
EVERY_SYSTEM = "expected names that every system takes"
BELOW = "expected a path below the folder of results"


def upscale(name, source):
    return {"kind": "upscale", "name": name, "inputs": {"source": source}}


REFUSED = [  # jobs, or a whole manifest; how the complaint begins, what else is in it
    # Seeds.
    ([CUBE, {**CUBE, "seed": 2**64}], f"jobs.1.seed: {SEED}, got 18446744073709551616", ""),
    ([{**CUBE, "seed": float("nan")}], "jobs.0.seed: ", "got nan"),
    ([{**CUBE, "seed": True}], "jobs.0.seed: ", "got True"),
    ([{**CUBE, "seed": 2**63 - 2, "count": 3}], "jobs.0.seed: ", "got 9223372036854775808"),
    ({"matrix": {"prompt": "a", "seed": [1, -1]}}, "matrix.seed: ", "got -1"),
    ({"defaults": {"seed": "one"}, "jobs": [CUBE]}, "defaults.seed: ", "got one"),
    # Unknown names.
    ([{**CUBE, "stepps": 3}], "unknown key jobs.0.stepps: expected a key of clip", "Did you mean steps?"),
    ([{**CUBE, "kind": "image", "fps": 3}], "unknown key jobs.0.fps: expected a key of image", "It is a key of clip"),
    ([{**CUBE, "kind": "image", "framse": 3}], "unknown key jobs.0.framse: ", "Did you mean frames, a key of clip"),
    ([{**CUBE, "then": [{"kind": "upscale", "count": 2}]}], "unknown key jobs.0.then.0.count: ", "a key of upscale"),
    ({"jbos": []}, "unknown key jbos: expected version, defaults, matrix, jobs", "Did you mean jobs?"),
    ({"defaults": {"stps": 3}, "jobs": [CUBE]}, "unknown key defaults.stps: ", "Did you mean steps?"),
    ({"defaults": {"name": "x"}, "jobs": [CUBE]}, "defaults.name: expected it in jobs alone", ""),
    ({"matrix": {"prompt": "a", "sed": [3]}}, "unknown key matrix.sed: ", "Did you mean seed?"),
    ({"matrix": {"prompt": "a", "tags": ["x"]}}, "matrix.tags: ", "Put it into the defaults"),
    ([{**CUBE, "kind": "imgae"}], "jobs.0.kind: expected clip, image, asset", "got imgae. Did you mean image?"),
    ([{**CUBE, "kind": ["clip"]}], "jobs.0.kind: ", "got ['clip']"),
    ({"defaults": {"kind": "clp"}, "jobs": [CUBE]}, "defaults.kind: ", "Did you mean clip?"),
    ([{**CUBE, "then": [{"kind": "upscal"}]}], "jobs.0.then.0.kind: ", "Did you mean upscale?"),
    ([{**CUBE, "then": [{"scale": 2}]}], "jobs.0.then.0.kind: ", "got nothing"),
    ([{**CUBE, "preset": "darft"}], "jobs.0.preset: expected draft or fine", "Did you mean draft?"),
    ({"matrix": {"prompt": "a", "preset": [["draft"]]}}, "matrix.preset: expected draft or fine", "got ['draft']"),
    ({"defaults": {"preset": "long"}, "jobs": [HERO]}, "defaults.preset: expected draft or fine", "got long"),
    # Values.
    ([{**CUBE, "prompt": "x" * 2001}], "jobs.0.prompt: expected 1 to 2000 characters, got 2001 characters", ""),
    ([{"seed": 3}], "jobs.0.prompt: expected a value, got nothing", ""),
    ([{"prompt": " "}], "jobs.0.prompt: expected some words", ""),
    ([{"prompt": "a {red|blue"}], "jobs.0.prompt, character 3: ", "got {red|blue"),
    ([{**CUBE, "size": "big"}], "jobs.0.size: expected WIDTHxHEIGHT in pixels", "got big"),
    ([{**CUBE, "size": "64x64", "width": 8}], "jobs.0.size: expected size, or width and height", ""),
    ([{**CUBE, "size": "4x64"}], "jobs.0.size: expected a whole number from 8 to 2048, got 4", ""),
    ([{**CUBE, "guidance_start": 0.9, "guidance_stop": 0.1}], "jobs.0: expected guidance_start must be less", ""),
    ([{**CUBE, "tags": "night"}], "jobs.0.tags: expected a valid list, got night", ""),
    ([{**CUBE, "tags": ["a", 3]}], "jobs.0.tags.1: expected text, got 3", ""),
    ({"defaults": {"tags": [""]}, "jobs": [CUBE]}, "defaults.tags.0: expected at least 1 char", ""),
    ([{**CUBE, "priority": "high"}], "jobs.0.priority: ", "got high"),
    ([{**CUBE, "then": {"kind": "upscale"}}], "jobs.0.then: expected a valid list", ""),
    ([{**CUBE, "image": "no.png"}], "jobs.0.image: expected a file that is there, got no.png", ""),
    ([{**CUBE, "image": "a\0b"}], "jobs.0.image: expected a file that is there", ""),
    ([{**CUBE, "image": "."}], "jobs.0.image: expected a file that is there", ""),
    ({"matrix": {"prompt": []}}, "matrix.prompt: expected a list of values, got []", ""),
    ({"matrix": {"prompt": {"a": 1}}}, "matrix.prompt: expected a list of values", ""),
    # Names and ids.
    ([HERO, CUBE, HERO], "jobs.2.name: expected a name of its own for every task, got hero, as at jobs.0", ""),
    ([{**HERO, "count": 2}, {**HERO, "name": "hero-2"}], "jobs.1.name: ", "got hero-2, as at jobs.0"),
    ([{**HERO, "name": "a/b"}], "jobs.0.name: expected a name without slashes", ""),
    ([{**HERO, "name": ".."}], "jobs.0.name: ", BELOW),
    ([{**HERO, "name": "a\nb"}], "jobs.0.name: ", EVERY_SYSTEM),
    ([{**HERO, "then": [{"kind": "describe", "name": "x"}] * 2}], "jobs.0.then.1.name: ", "as at jobs.0.then.0"),
    # Outputs.
    *(
        ([{**CUBE, "output": output}], "jobs.0.output: ", part)
        for output, part in [
            ("../x.mp4", BELOW),
            ("a/../../x.mp4", BELOW),
            ("/etc/x.mp4", BELOW),
            ("a//x.mp4", BELOW),
            ("./x.mp4", BELOW),
            ("a\\x.mp4", EVERY_SYSTEM),
            ("a\0.mp4", EVERY_SYSTEM),
            ("C:x.mp4", EVERY_SYSTEM),
            ("x\u202e.mp4", EVERY_SYSTEM),
            (".x.mp4", EVERY_SYSTEM),
            ("a /x.mp4", EVERY_SYSTEM),
            ("a./x.mp4", EVERY_SYSTEM),
            ("con.mp4", "expected a name that Windows does not keep"),
            ("a/LPT1/x.mp4", "expected a name that Windows does not keep"),
            ("x" * 250 + ".mp4", "expected names of at most 200 bytes"),
            ("é" * 120 + ".mp4", "expected names of at most 200 bytes"),
            ("", "expected 1 to 1000 characters"),
            ("x.png", "expected a name ending in .mp4"),
            ("{nam}.mp4", "Did you mean name?"),
            ("{name.__class__}.mp4", "expected fields {name}"),
            ("{name!r}.mp4", "expected fields {name}"),
            ("{name:99999999}.mp4", "expected fields {name}"),
            ("{0}.mp4", "expected fields {name}"),
            ("{name.mp4", "expected a template"),
        ]
    ),
    ([{"prompt": "x" * 60, "output": "/".join(["{prompt}" * 3] * 6) + ".mp4"}], "jobs.0.output: ", "most 1000 bytes"),
    ([{**CUBE, "output": "A.mp4"}, {**CUBE, "output": "a.mp4"}], "jobs.1.output: ", "got a.mp4, as of 001-a-cube"),
    ([{**CUBE, "output": "u\u0308.mp4"}, {**CUBE, "output": "ü.mp4"}], "jobs.1.output: ", "as of 001-a-cube"),
    ([{**CUBE, "output": "x.mp4", "count": 2}], "jobs.0.output: ", "Put {name} into the template"),
    ([{**CUBE, "output": "a/b.mp4"}, {**CUBE, "output": "a"}], "jobs.0.output: ", "inside the output of 002-a-cube"),
    ([{**HERO, "then": [{"kind": "describe", "output": "x.txt"}]}], "jobs.0.then.0.output: ", "ending in .json"),
    ([{**HERO, "then": [{"kind": "upscale", "output": "x.mp4"}]}], "jobs.0.then.0.output: ", "ending in .png"),
    ([{**CUBE, "kind": "asset", "output": "x.mp4"}], "jobs.0.output: ", "ending in .glb"),
    # What takes what.
    ([HERO, {**CUBE, "inputs": {"image": "heor"}}], "jobs.1.inputs.image: ", "got heor. Did you mean hero?"),
    ([HERO, {**CUBE, "inputs": {"imag": "hero"}}], "jobs.1.inputs.imag: ", "Did you mean image?"),
    ([HERO, {**CUBE, "kind": "asset", "inputs": {"image": "hero"}}], "jobs.1.inputs.image: ", "asset takes no file"),
    ([{**CUBE, "name": "x"}, {**CUBE, "inputs": {"last": "x"}}], "jobs.1.inputs.last: ", "got x, which makes a clip"),
    ([HERO, {**CUBE, "inputs": {"image": "hero"}, "image": "x"}], "jobs.1.inputs.image: ", "got both for image"),
    ([{**CUBE, "then": [{"kind": "asset"}]}], "jobs.0.then.0.kind: expected upscale, describe after", "got asset"),
    ([{**HERO, "then": [{"kind": "upscale", "source": "x.png"}]}], "jobs.0.then.0: ", "source given"),
    ([{"kind": "upscale"}], "jobs.0.source: expected a file, or in inputs a job that makes a clip or an image", ""),
    ([{**CUBE, "inputs": {"image": "001-a-cube"}}], "jobs.0.inputs: ", "got 001-a-cube -> 001-a-cube"),
    ([CUBE, upscale("a", "b"), upscale("b", "c"), upscale("c", "a")], "jobs.1.inputs: ", "got a -> c -> b -> a"),
    ([{**CUBE, "kind": "describe", "count": 2}], "unknown key jobs.0.prompt: ", "It is a key of clip"),
    ([{"kind": "describe", "count": 2}], "jobs.0.count: ", "describe has no seed"),
    # How many.
    ({"matrix": {"prompt": "a", **{key: list(range(8)) for key in "abcdefghij"}}}, "matrix: ", "got 1073741824"),
    ([{**CUBE, "count": 10**9}], "jobs.0.count: expected a whole number from 1 to 200000", ""),
    ([{**CUBE, "count": 150_000}] * 2, "manifest: expected at most 200000 tasks in all, got 300000", ""),
    ([{**CUBE, "count": 100_000, "then": [{"kind": "describe"}] * 2}], "manifest: ", "got 300000"),
    ([], "jobs: expected at least one job, or a matrix, got none", ""),
    # The whole.
    ({"version": 2, "new": 1}, "version: expected at most 1, got 2. The manifest was made for a newer Kinoform", ""),
    ({"version": True, "jobs": [CUBE]}, "version: expected a whole number of at least 1, got True", ""),
    ({"jobs": CUBE}, "jobs: expected a valid list", ""),
    ({"jobs": ["a cube"]}, "jobs.0: expected keys with values, got a cube", ""),
    ("a cube", "manifest: expected keys with values: version, defaults, matrix, jobs, got a cube", ""),
]  # fmt: skip


@pytest.mark.parametrize(("said", "start", "part"), REFUSED)
def test_what_is_wrong_is_said_with_its_place(tmp_path, said, start, part):
    manifest = tmp_path / "batch.json"
    manifest.write_text(json.dumps({"jobs": said} if isinstance(said, list) else said))
    with pytest.raises(InputError) as caught:
        read_manifest(manifest)
    line = str(caught.value)
    assert line.startswith(start), line
    assert part in line, line


@pytest.mark.parametrize(
    ("name", "text", "start"),
    [
        ("a.yaml", "jobs:\n  - prompt: a\n\n    seed: -1\n", "jobs.0.seed, line 4: "),
        ("a.yaml", "jobs:\n- prompt: a\n  then:\n  - kind: upscale\n    scale: 1", "jobs.0.then.0.scale, line 5: "),
        ("a.yaml", "defaults:\n  steps: 0\njobs: [{prompt: a}]", "defaults.steps, line 2: "),
        ("a.yaml", "version: 1\njobs:\n  - stepps: 3\n", "unknown key jobs.0.stepps, line 3: "),
        ("a.yaml", "version: 1\n\njbos: []\n", "unknown key jbos, line 3: "),
        ("a.yaml", "jobs:\n  - seed: 1\n  - prompt: a\n", "jobs.0.prompt, line 2: "),
        ("a.jsonl", '{"prompt": "a"}\n\n{"prompt": "a", "seed": -1}', "line 3, seed: "),
        ("a.jsonl", '{"prompt": "a", "then": [{"kind": "upscale", "scale": 1}]}', "line 1, then.0.scale: "),
        ("a.jsonl", '{"prompt": "a", "inputs": {"image": "x"}}', "line 1, inputs.image: "),
        ("a.txt", "a\n# b\n\na {b\n", "line 4, prompt, character 3: "),
    ],
)  # fmt: skip
def test_places_in_every_kind_of_file(tmp_path, name, text, start):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path / name)
    assert str(caught.value).startswith(start), caught.value


# A file, as what it begins with, what is repeated, how often, and what it ends with.
BOMB = "a: &a0 [x]\n" + "".join(f"b{i}: &a{i + 1} [{','.join([f'*a{i}'] * 10)}]\n" for i in range(20))
CHAINS = "".join(f"c{i + 1}: &a{i + 1} [{', '.join([f'{{kind: upscale, then: *a{i}}}'] * 2)}]\n" for i in range(40))
MERGES = "".join(f"c{i + 1}: &a{i + 1} {{<<: [{','.join([f'*a{i}'] * 20)}], k{i}: 1}}\n" for i in range(20))
CIRCLE = [{"kind": "upscale", "name": f"{i}", "inputs": {"source": f"{(i + 1) % 4000}"}} for i in range(4000)]
HOSTILE = {
    "bomb.yaml": (BOMB, "", 0, "jobs: [{prompt: a}]"),
    "chains.yaml": ("a: &a0 [{kind: upscale}]\n" + CHAINS, "", 0, "jobs: [{prompt: a, then: *a40}]"),
    "merges.yaml": ("a: &a0 {prompt: x}\n" + MERGES, "", 0, "jobs: [*a20]"),
    "flow.yaml": ("", "[", 100_000, ""),
    "block.yaml": ("", "- ", 100_000, ""),
    "mappings.yaml": ("", "{a: ", 100_000, ""),
    "directives.yaml": ("", "%TAG !a! tag:x:\n", 100_000, "--- {}"),
    "many.yaml": ("jobs: [", "1,", 8_000_000, "]"),
    "long.yaml": ("jobs: [{prompt: '", "\U0001f986", 1_000_000, "'}]"),
    "matrix.yaml": ("matrix: {prompt: a, seed: &s [", "1,", 1000, "], steps: *s, fps: *s}"),
    "deep.json": ("", "[", 100_000, ""),
    "many.json": ("[", '{"a":{}},', 1_000_000, "{}]"),
    "long.json": ('{"jobs":[{"prompt":"', "\U0001f986", 1_000_000, '"}]}'),
    "deep.jsonl": ('{"prompt":', "[", 100_000, ""),
    "closed.jsonl": ('{"prompt":' + "[" * 400, "]", 400, "}"),
    "digits.jsonl": ('{"prompt":"a","seed":', "1", 100_000, "}"),
    "circle.jsonl": ("\n".join(map(json.dumps, CIRCLE)), "", 0, ""),
    "blank.jsonl": ("", "\n", 16_000_000, ""),
    "long.jsonl": ('{"prompt":"', "\U0001f986", 16_000_000, '"}'),
    "many.txt": ("", "a\n", 8_000_000, ""),
    "braces.txt": ("", "{|", 50_000, ""),
    "choices.txt": ("", "{a|b}", 200_000, ""),
}
# Run alone: what a process takes, without the checks of the test run.
COSTS = """
import json, sys, time
from lab.batch.manifest import read_manifest
from shared.errors import InputError

assert not {"torch", "PIL", "numpy"} & set(sys.modules)
for path in sys.argv[1:]:
    start = time.process_time()
    try:
        tasks = read_manifest(path)
        line = f"{len(tasks)} tasks from {tasks[0].id} to {tasks[-1].id}"
    except InputError as error:
        line = str(error)
    print(json.dumps([path, time.process_time() - start, line]))
most = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(most.split()[1]) / 1024)
"""


def test_nothing_costs_much(tmp_path):
    paths = []
    for name, (start, part, times, end) in HOSTILE.items():
        paths.append(tmp_path / name)
        with paths[-1].open("w", encoding="utf-8") as file:
            file.write(start)
            for done in range(0, times, 100_000):
                file.write(part * min(100_000, times - done))
            file.write(end)
    paths.append(tmp_path / "right.jsonl")
    paths[-1].write_text("\n".join(json.dumps({"prompt": f"a cube {number}"}) for number in range(1000)))
    run = subprocess.run([sys.executable, "-c", COSTS, *map(str, paths)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    *costs, (_, seconds, right), megabytes = map(json.loads, run.stdout.splitlines())
    assert not [cost for cost in costs if " tasks from " in cost[2]]
    assert right == "1000 tasks from 0001-a-cube-0 to 1000-a-cube-999"
    # Two seconds, and what other processes on the same core add.
    assert not [cost for cost in costs if cost[1] > 6]
    assert seconds < 1
    assert megabytes < 512


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    for name, size in (("a.txt", 64 * 1024**2 + 1), ("a.jsonl", 2**33), ("a.yaml", 16 * 1024**2 + 1)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)  # takes no place on the disk
        with pytest.raises(InputError, match=f"expected at most .* bytes, got {size} bytes"):
            read_manifest(tmp_path / name)
