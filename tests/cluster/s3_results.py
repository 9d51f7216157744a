"""Batches whose results go to S3, by its protocol: a server of moto's on this machine, asked through s3fs."""

import hashlib
import json
import shutil
import subprocess
import sys

import boto3
import pytest
import requests
import s3fs
from moto.server import ThreadedMotoServer

from lab.batch.results.delivery import Undelivered
from lab.batch.results.remote import Remote, local_folder
from tests.lab.batch.pictures import batch, hashes, manifest, rows
from tests.lab.batch.results.test_remote import KILLED
from tests.lab.command import environment, is_refusal

BUCKET = "renders"
URL = f"s3://{BUCKET}/night"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(endpoint, monkeypatch, tmp_path):
    """A client of the server, which has one bucket, empty, that keeps all versions of its objects."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    requests.post(f"{endpoint}/moto-api/reset", timeout=10).raise_for_status()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return client


def objects(s3):
    """sha256 of every object, by key."""
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    bodies = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    return {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


def writes(s3):
    """How often something was written, the probe apart."""
    found = s3.list_object_versions(Bucket=BUCKET).get("Versions", [])
    return len([each for each in found if not each["Key"].endswith(".kinoform")])


def delivered(out):
    return {f"night/results/{name}": sha for name, sha in hashes(out).items()}


def test_results_arrive_and_who_has_lost_the_ledger_takes_them_over(s3, tmp_path):
    path = manifest(tmp_path, 2)
    made = batch("run", path, "--out", URL, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    here = local_folder(URL)
    assert len(hashes(here)) == 8
    assert objects(s3) == delivered(here)
    assert batch("status", URL, folder=tmp_path).stdout.startswith("8 of 8 done")
    before = writes(s3)
    assert before == 8
    shutil.rmtree(here)
    again = batch("run", path, "--out", URL, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("there already") == 8
    assert "made " not in again.stdout
    assert objects(s3) == delivered(here)
    assert writes(s3) == before


def test_a_kill_between_here_and_there_costs_nothing(s3, tmp_path):
    path, here = manifest(tmp_path, 2, chain=False), tmp_path / "here"
    flags = ["run", str(path), "--out", URL, "--ledger", "here", "--workers", "1"]
    subprocess.run([sys.executable, "-c", KILLED, "batch", *flags], cwd=tmp_path, env=environment(), timeout=100)
    assert (len(hashes(here)), objects(s3)) == (1, {})
    last = batch(*flags, folder=tmp_path)
    assert last.returncode == 0, last.stderr
    assert objects(s3) == delivered(here)
    assert (len(objects(s3)), writes(s3)) == (2, 2)
    assert [row.attempts for row in rows(here).values()] == [0, 0]


def test_ray_delivers_too(s3, tmp_path):
    path = manifest(tmp_path, 2)
    made = batch("run", path, "--out", URL, "--executor", "ray", "--json", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["counts"]["done"] == 8
    assert objects(s3) == delivered(local_folder(URL))
    assert len(objects(s3)) == 8


def test_what_breaks_off_in_the_middle_is_not_there(s3, tmp_path, monkeypatch):
    """Large files go in parts: none of them stays."""
    (tmp_path / "a.mp4").write_bytes(bytes(11 * 2**20))
    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 * 2**20)
    remote, call = Remote.open(URL), s3fs.S3FileSystem._call_s3

    async def breaks(self, method, *rest, **options):
        if method == "complete_multipart_upload":
            raise OSError("the line is cut")
        return await call(self, method, *rest, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", breaks)
    wrong = remote.deliver(tmp_path, ["a.mp4"])
    assert wrong == Undelivered(f"made, but not copied to {URL}/results/a.mp4: OSError: the line is cut")
    assert objects(s3) == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
    assert remote.deliver(tmp_path, ["a.mp4"]) is None
    assert objects(s3) == {"night/results/a.mp4": hashlib.sha256(bytes(11 * 2**20)).hexdigest()}


def refused(folder, url, *parts):
    made = batch("run", manifest(folder, 1), "--out", url, folder=folder)
    assert is_refusal(made.returncode, made.stderr, "expected a place that can be listed and written to", *parts)
    return True


def test_a_place_that_is_not_there_or_not_open_is_refused_in_a_line(s3, endpoint, tmp_path, monkeypatch):
    assert refused(tmp_path, "s3://rendres/night", "--out s3://rendres/night", "bucket does not exist")
    assert [found["Name"] for found in s3.list_buckets()["Buckets"]] == [BUCKET]  # and none was made
    text = {"headers": {"Content-Type": "text/plain"}, "timeout": 10}
    requests.post(f"{endpoint}/moto-api/reset-auth", data=b"0", **text).raise_for_status()  # from now on keys are asked
    try:
        assert refused(tmp_path, URL, "PermissionError")
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data=b"inf", **text).raise_for_status()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert refused(tmp_path, URL, "Unable to locate credentials")
    assert objects(s3) == {}
