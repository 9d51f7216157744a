"""The benchmark of many prompts, whole, on a few pictures."""

import json

import pytest

from benchmarks import many_prompts


def test_it_measures_real_commands_and_compares_their_files(tmp_path, monkeypatch, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# two\na red cube\na blue duck\n")
    flags = ["--prompts", str(prompts), "--count", "1", "--single-commands", "1", "--json"]
    monkeypatch.setattr("sys.argv", ["many_prompts", *flags])
    assert many_prompts.main() == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    together, single = rows["one command for all, s"]["value"], rows["one command for each, s a picture"]["value"]
    assert rows["times as fast"]["value"] == pytest.approx(2 * single / together)
    assert rows["files equal byte for byte"]["value"] == 1
